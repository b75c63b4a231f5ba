#!/usr/bin/env bash
# What the recovery tests need besides Python: PostgreSQL's programs, from Debian's packages. The tests make a cluster of
# their own in a temporary folder; no service of the system is started or changed.
set -euo pipefail

compgen -G '/usr/lib/postgresql/*/bin/initdb' > /dev/null && exit 0
if ! command -v apt-get > /dev/null; then
  echo "PostgreSQL's initdb and pg_ctl are missing, and there is no apt-get to install them: the tests that need them are skipped." >&2
  exit 0
fi
install=(apt-get install --yes --no-install-recommends)
sudo=()
if [ "$(id -u)" -ne 0 ]; then sudo=(sudo); fi
"${sudo[@]}" apt-get update || { echo "The package index cannot be reached: the tests that need PostgreSQL are skipped." >&2; exit 0; }
# Only its programs are wanted, not a cluster that runs as a service.
"${sudo[@]}" mkdir -p /etc/postgresql-common
test -e /etc/postgresql-common/createcluster.conf ||
  echo 'create_main_cluster = false' | "${sudo[@]}" tee /etc/postgresql-common/createcluster.conf > /dev/null
"${sudo[@]}" env DEBIAN_FRONTEND=noninteractive "${install[@]}" postgresql
