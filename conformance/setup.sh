#!/usr/bin/env bash
# Build the OpenID Foundation's conformance suite and what it needs: CONFORMANCE_WORK=dir setup.sh PATH-OF-THE-SUITE'S-GIT-DIRECTORY [PATH-OF-THE-PROJECT]
# Debian: nginx-light openssl maven; a JDK of 21 or newer in JAVA_HOME (or under /usr/lib/jvm).
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd); W=${CONFORMANCE_WORK:?a folder to work in}; suite=$1; project=${2:-$here/..}; mkdir -p "$W/run" "$W/tls" "$W/out" "$W/mjs"
: "${JAVA_HOME:=$(ls -d /usr/lib/jvm/*25* /usr/lib/jvm/*21* 2>/dev/null | head -1)}"; export JAVA_HOME
command -v nginx >/dev/null || apt-get install -yqq --no-install-recommends nginx-light >/dev/null
if [ ! -f "$W/suite/target/fapi-test-suite.jar" ]; then
    [ -d "$W/suite" ] || git clone -q "$suite" "$W/suite"
    ( cd "$W/suite"
      # 0.99.0 of a library for mobile documents is not on Maven Central; linters off; two text indexes of lists that the stand-in database does not know. No check is touched.
      sed -i 's#<version>0\.99\.0</version>#<version>0.101.0</version>#; /<arg>-Xlint/d; /<arg>-Werror/d; /<arg>-XDcompilePolicy/d; /<arg>--should-stop/d; /<arg>-Xplugin:ErrorProne/d; /<annotationProcessorPaths>/,/<\/annotationProcessorPaths>/d; s#</compilerArgs>#</compilerArgs><proc>none</proc>#' pom.xml
      sed -i 's#^\(\s*\)collection.createIndex(new Document(sortedMap));#\1//&#' src/main/java/net/openid/conformance/info/DBTestInfoService.java src/main/java/net/openid/conformance/info/DBTestPlanService.java
      mvn -q -B -DskipTests -Dpmd.skip -Dcpd.skip -Dcheckstyle.skip -Djacoco.skip package )
fi
if [ ! -d "$W/mjs/lib" ]; then
    cat >"$W/mjs/pom.xml" <<'P'
<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion><groupId>x</groupId><artifactId>mjs</artifactId><version>1</version>
<dependencies><dependency><groupId>de.bwaldvogel</groupId><artifactId>mongo-java-server</artifactId><version>1.47.0</version></dependency></dependencies></project>
P
    ( cd "$W/mjs" && mvn -q -B dependency:copy-dependencies -DoutputDirectory=lib && "$JAVA_HOME/bin/javac" -cp "lib/*" -d out "$here/Mjs.java" )
fi
if [ ! -f "$W/tls/s.pem" ]; then
    ( cd "$W/tls"; openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj "/CN=conformance" -keyout ca.key -out ca.pem -addext "basicConstraints=critical,CA:TRUE" -addext "keyUsage=critical,keyCertSign"
      openssl req -newkey rsa:2048 -nodes -subj "/CN=localhost" -keyout s.key -out s.csr; printf 'subjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage=serverAuth\n' >ext
      openssl x509 -req -in s.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 30 -extfile ext -out s.pem ) 2>/dev/null
fi
[ -x "$W/venv/bin/python" ] || python3 -m venv "$W/venv"
"$W/venv/bin/pip" install -q --upgrade --force-reinstall --no-deps "$project" && "$W/venv/bin/pip" install -q "$project" requests pyjwt cryptography
