"""Bulk operations: one verb for many jobs, applied in batches by the leading worker, with an outcome for each job.

What an operation touches is fixed when it is made: a row for each job that matched. A batch is one transaction: the
verb, the outcomes, and how far the operation is. So after any crash it goes on exactly where it was.
"""
