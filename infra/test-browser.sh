#!/usr/bin/env bash
# What the browser test needs besides Python: Chromium, from Debian's packages. Playwright drives it; its own download of
# a browser is not used.
set -euo pipefail

for name in chromium chromium-browser google-chrome; do
  if command -v "$name" > /dev/null; then exit 0; fi
done
if ! command -v apt-get > /dev/null; then
  echo "Chromium is missing, and there is no apt-get to install it: the browser test is skipped." >&2
  exit 0
fi
sudo=()
if [ "$(id -u)" -ne 0 ]; then sudo=(sudo); fi
"${sudo[@]}" apt-get update || { echo "The package index cannot be reached: the browser test is skipped." >&2; exit 0; }
"${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends chromium fonts-dejavu-core
