"""Where an organization's files are kept under these settings."""

from __future__ import annotations

from tasks.exports.stores import Directory, Store, directory_name
from tracking.errors import ConfigurationError
from tracking.settings import Settings


def export_store(settings: Settings, organization: str) -> Store:
    """The exports of an organization. Those in the directory lie side by side: their jobs say whose each is."""
    if settings.exports_url:
        return _bucket(settings, "exports", organization, per_job=True)
    return Directory(settings.exports)


def upload_store(settings: Settings, organization: str) -> Store:
    """What an organization has uploaded."""
    if settings.exports_url:
        return _bucket(settings, "uploads", organization, per_job=False)
    return Directory(settings.uploads / directory_name(organization))


def synced_bucket(settings: Settings, organization: str) -> Store:
    """Where sync jobs push an organization's collections to. Raises ConfigurationError when there is no bucket."""
    if not settings.exports_url:
        raise ConfigurationError("CELERIAC_EXPORTS_URL is not set: there is no bucket to push to")
    return _bucket(settings, "synced", organization, per_job=False)


def _bucket(settings: Settings, kind: str, organization: str, *, per_job: bool) -> Store:
    try:
        from tasks.exports.bucket import Bucket  # noqa: PLC0415 - its library is an extra
    except ModuleNotFoundError:
        raise ConfigurationError("CELERIAC_EXPORTS_URL needs the extra celeriac[s3], which is not installed") from None
    return Bucket(settings, kind, organization, per_job=per_job)
