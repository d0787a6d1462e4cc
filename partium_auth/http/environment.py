"""What the process's environment says of proxies and certificates."""

from __future__ import annotations

import functools
import os
import ssl
from urllib.parse import urlsplit

import requests
from urllib3.util.ssl_ import create_urllib3_context

from partium_auth.exceptions import ConnectionFailed

#: Reads proxies and the CA bundle from the environment. It never sends: a session that does would read ``.netrc``, keep
#: cookies, and read the body of a redirect without a limit.
_session = requests.Session()


def environment_for(url: str) -> tuple[bool | str, dict[str, str]]:
    """CA bundle (True: certifi's) and proxies for a URL."""
    settings = _session.merge_environment_settings(url, {}, True, None, None)
    # Plain http is for loopback; through a proxy it would leave the machine.
    return settings["verify"] or True, {} if urlsplit(url).scheme == "http" else dict(settings["proxies"])


@functools.lru_cache(maxsize=8)
def tls_context(bundle: str) -> ssl.SSLContext:
    """One context per CA bundle: to load one takes longer (13 ms) than all else that happens for a call."""
    context = create_urllib3_context()
    try:
        if os.path.isdir(bundle):
            context.load_verify_locations(capath=bundle)
        else:
            context.load_verify_locations(cafile=bundle)
    except OSError:
        raise ConnectionFailed(
            f"The CA bundle {bundle} cannot be read; check REQUESTS_CA_BUNDLE and CURL_CA_BUNDLE.", sent=False
        ) from None
    return context
