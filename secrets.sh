#!/bin/sh
# Writes the secrets of compose.yaml, from .env, into files of their own in secrets/, which each container gets its own of.
# Run it again after a change of .env, and start who reads them again.
set -eu
cd "$(dirname "$0")"
. ./.env

put() {
    printf '%s' "$2" > "secrets/.$1"
    chmod 0444 "secrets/.$1" # a container's user is nobody here; the directory lets no one else in
    mv -f "secrets/.$1" "secrets/$1"
}

mkdir -p -m 0700 secrets
database=database:5432/celeriac
put database_password "${POSTGRES_PASSWORD:?}"
put database_worker_password "${DATABASE_WORKER_PASSWORD:?}"
put database_api_password "${DATABASE_API_PASSWORD:?}"
put roles_database_url "postgresql://celeriac:$POSTGRES_PASSWORD@$database"
put worker_database_url "postgresql://celeriac_worker:$DATABASE_WORKER_PASSWORD@$database"
put worker_broker_url "amqp://celeriac_worker:${RABBITMQ_WORKER_PASSWORD:?}@broker:5672//"
put api_database_url "postgresql://celeriac_api:$DATABASE_API_PASSWORD@$database"
put api_broker_url "amqp://celeriac_api:${RABBITMQ_API_PASSWORD:?}@broker:5672//"
put api_jwt_secret "${CELERIAC_JWT_SECRET:?}"
put flower_broker_url "amqp://celeriac_flower:${RABBITMQ_FLOWER_PASSWORD:?}@broker:5672//"
put flower_broker_api "http://celeriac_flower:$RABBITMQ_FLOWER_PASSWORD@broker:15672/api/"
put flower_basic_auth "${FLOWER_BASIC_AUTH:?}"
