#!/usr/bin/env bash
# The relying-party plans that this product is to pass, or those that $PLANS names; the suite has to be up. Output in $CONFORMANCE_WORK/out, the table at the end.
here=$(cd "$(dirname "$0")" && pwd); W=${CONFORMANCE_WORK:?}; PY=$W/venv/bin/python; rm -f "$W/results.jsonl"
CL="client_registration=static_client request_type=plain_http_request"; L="client_auth_type=client_secret_basic response_mode=default $CL"; J="response_type=code $L"
D() { n=$1; shift; [[ -z ${PLANS:-} || " $PLANS " == *" $n "* ]] || return 0
    timeout 420 "$PY" "$here/drive.py" "$@" >"$W/out/$n.txt" 2>&1; grep -hoE '(FINISHED|INTERRUPTED|WAITING|DRIVER) +[A-Z-]+' "$W/out/$n.txt" | sort | uniq -c | sed "s/^/$n:/"; }
SITE=https://localhost:46602
D config oidcc-client-config-certification-test-plan $L
D rotation oidcc-client-config-certification-test-plan $L --keep --pause 31 --tag keep  # a login fetches a document older than 30 s
D basic oidcc-client-basic-certification-test-plan $CL
D formpost oidcc-client-formpost-basic-certification-test-plan $CL
D backchannel oidcc-client-back-channel-logout-rp-basic $L
D frontchannel oidcc-client-front-channel-logout-rp-basic $L --client "frontchannel_logout_uri=\"$SITE/partium/frontchannel-logout/default/\"" --client frontchannel_logout_session_required=true --client backchannel_logout_uri=null
D thirdparty oidcc-client-test-3rd-party-init-login-test-plan response_type=code response_mode=default client_auth_type=client_secret_basic client_registration=dynamic_client request_type=plain_http_request --tag registered-by-hand --register "{\"initiate_login_uri\": \"$SITE/partium/login/default/\"}"
D rpinit oidcc-client-rp-initiated-logout-rp-basic $L
D refresh oidcc-client-refreshtoken-test-plan $J
D post oidcc-client-test-plan response_type=code response_mode=default client_auth_type=client_secret_post $CL
D keypair oidcc-client-test-plan response_type=code response_mode=default client_auth_type=private_key_jwt $CL --key-pair RS256
D fapi2 fapi2-security-profile-final-client-test-plan client_auth_type=private_key_jwt fapi_profile=plain_fapi fapi_client_type=oidc sender_constrain=dpop authorization_request_type=simple --key-pair PS256 --op-key --client 'scope="openid email profile"' --only happy-path
"$PY" "$here/report.py" >"$W/table.md"; echo "$W/table.md"
