#!/usr/bin/env bash
# Build the OpenID Foundation's conformance suite, run its relying-party plans against this project, print a table: run.sh GIT-DIRECTORY
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
[ -e "${1:?Name the git directory of the suite: make conformance SUITE=/path/to/conformance-suite.git}" ] || { echo "There is no $1."; exit 1; }
: "${JAVA_HOME:=$(ls -d /usr/lib/jvm/*25* /usr/lib/jvm/*21* 2>/dev/null | head -1)}"
version=$("${JAVA_HOME:-/none}/bin/java" -version 2>&1 | sed -n 's/.*version "\([0-9]*\).*/\1/p' || true)
[ "${version:-0}" -ge 21 ] || { echo "The conformance suite needs a JDK of 21 or newer: set JAVA_HOME to one."; exit 1; }
export JAVA_HOME CONFORMANCE_WORK=${CONFORMANCE_WORK:-/tmp/partium-conformance}
"$here/setup.sh" "$1" "$here/.."
"$here/up.sh"
trap "$here/down.sh" EXIT
"$here/plans.sh"
cat "$CONFORMANCE_WORK/table.md"
