"""drive.py PLAN [variant=value …] [--only name,name] [--tag text] [--set NAME=json …] [--client key=json …] [--key-pair algorithm]
Runs the modules of one plan of the OpenID Foundation's suite against the site; a line each, and everything in $CONFORMANCE_WORK/results.jsonl."""
import json, re, sys, time, threading, requests, urllib3
sys.path.insert(0, __import__("os").path.dirname(__import__("os").path.abspath(__file__)))
import confsite as S
urllib3.disable_warnings()
A = requests.Session(); A.verify = False
API = S.os.environ.get("SUITE_API", S.SUITE)
def api(method, path, **kw):
    r = A.request(method, API + "/api/" + path, timeout=60, **kw)
    if r.status_code >= 400: raise RuntimeError(f"{method} {path} {r.status_code} {r.text[:600]}")
    return r.json()
args = sys.argv[1:]; plan = args.pop(0); variant, only, tag, sets, client, extra, keep, pause, register, key_pair = {}, None, "", {}, {}, {}, False, 0, None, None
while args:
    a = args.pop(0)
    if a == "--only": only = args.pop(0).split(",")
    elif a == "--keep": keep = True
    elif a == "--register": register = json.loads(args.pop(0))
    elif a == "--pause": pause = float(args.pop(0))
    elif a == "--key-pair": key_pair = args.pop(0)
    elif a == "--op-key":  # what the suite signs with, where it does not make a key itself
        import jwt; from cryptography.hazmat.primitives.asymmetric import rsa
        k = jwt.algorithms.RSAAlgorithm.to_jwk(rsa.generate_private_key(65537, 2048), as_dict=True); k.pop("key_ops", None)
        extra["server"] = {"jwks": {"keys": [{**k, "kid": "op", "use": "sig", "alg": "PS256"}]}}
    elif a == "--tag": tag = args.pop(0)
    elif a == "--set": k, v = args.pop(0).split("=", 1); sets[k] = json.loads(v)
    elif a == "--client": k, v = args.pop(0).split("=", 1); client[k] = json.loads(v)
    elif a == "--config": k, v = args.pop(0).split("=", 1); extra[k] = json.loads(v)
    else: k, v = a.split("=", 1); variant[k] = v
MODE = "rp"
SLUG = S.os.environ.get("SLUG", "default")  # another name: a provider kept in the admin
S.up()
from django.conf import settings
for k, v in sets.items(): setattr(settings, k, v)
if key_pair:  # private_key_jwt; the suite publishes its document only while a module runs, so the algorithm is given
    from types import SimpleNamespace
    from partium_auth.services import client_keys
    settings.OIDC_RP_CLIENT_AUTHENTICATION = "private_key_jwt"
    client_keys.documents = SimpleNamespace(get=lambda url: {"token_endpoint_auth_signing_alg_values_supported": [key_pair]})
    client_keys.create_client_key(None, actor=None)
    from partium_auth.oidc.client_keys import published
    client["jwks"] = {"keys": published("")}
if SLUG != "default":
    from partium_auth.fields import seal; from partium_auth.models import IdentityProvider
    row = IdentityProvider(slug=SLUG, display_name="Conformance", issuer=S.ISSUER, client_id=S.CLIENT[0])
    row.client_secret = seal(row, "client_secret", S.CLIENT[1]); row.save()
CONFIG = {"alias": "partium", "description": "partium_auth", "waitTimeoutSeconds": 4, **extra, "client": {
    "client_id": S.CLIENT[0], "client_secret": S.CLIENT[1], "redirect_uri": S.SITE + f"/partium/callback/{SLUG}/",
    "post_logout_redirect_uri": S.SITE + "/partium/login/", "backchannel_logout_uri": S.SITE + f"/partium/backchannel-logout/{SLUG}/", **client}}
CONFIG["client"] = {k: v for k, v in CONFIG["client"].items() if v is not None}
class Person:
    def __init__(self): self.s = requests.Session(); self.s.verify = False; self.trail = []
    def follow(self, method, url, most=12, **kw):
        for _ in range(most):
            r = self.s.request(method, url, allow_redirects=False, timeout=70, **kw); self.trail.append(f"{r.status_code} {url.split('?')[0]}")
            if r.is_redirect: url = requests.compat.urljoin(url, r.headers["Location"]); method, kw = "GET", {}; self.last_location = url; continue
            return r
        return r
    def login(self, **q): return self.settle(self.follow("GET", S.SITE + f"/partium/login/{SLUG}/", params=q))
    def settle(self, r):
        """A form_post page submits itself with JavaScript: done here by hand, as a browser would (cross-site: no Lax cookies)."""
        m = re.search(r"<form[^>]*action=\"([^\"]+)\"", r.text) if S.ISSUER.split("/test/")[0] in r.url else None
        if m:
            import html
            data = {html.unescape(a): html.unescape(b) for a, b in re.findall(r"<input[^>]*name=\"([^\"]+)\"[^>]*value=\"([^\"]*)\"", r.text)}
            jar = self.s.cookies.copy()
            for c in list(self.s.cookies):
                if (c._rest or {}).get("SameSite", "").lower() in ("lax", "strict") : self.s.cookies.clear(c.domain, c.path, c.name)
            r = self.follow("POST", html.unescape(m[1]), data=data); self.s.cookies.update(jar)
            again = {html.unescape(a): html.unescape(b) for a, b in re.findall(r"<input[^>]*name=\"([^\"]+)\"[^>]*value=\"([^\"]*)\"", r.text)} if "partium-form-post" in r.text else None
            if again: r = self.follow("POST", r.url, data=again)  # the page of the site posts itself, with its cookies
        return r
    def who(self): return self.s.get(S.SITE + "/who/").json()["user"]
    def logout(self):
        page = self.s.get(S.SITE + "/"); t = re.search(r'csrfmiddlewaretoken value="([^"]+)"', page.text)
        return self.follow("POST", S.SITE + "/partium/logout/", data={"csrfmiddlewaretoken": t[1]}, headers={"Referer": S.SITE + "/"}) if t else None
def text(r):
    if r is None: return "-"
    m = re.search(r"<h1[^>]*>(.*?)</h1>", r.text, re.S); h = re.sub(r"<[^>]+>|\s+", " ", m[1] if m else r.text[:80]).strip()[:70]
    return f"{r.status_code} {r.url.split('?')[0].replace(S.SITE, '')} «{h}»"
def info(i): return api("GET", f"info/{i}")
def wait(i, states, seconds):
    end = time.time() + seconds
    while time.time() < end:
        x = info(i)
        if x["status"] in states: return x
        time.sleep(.25)
    return info(i)
def expire(share=1.2):
    from partium_auth.models import Grant
    import datetime as dt
    g = Grant.objects.filter(kind="oidc", revoked_at=None).order_by("-created_at").first()
    if g is None: return "no grant"
    Grant.objects.filter(pk=g.pk).update(issued_at=g.issued_at - (g.lifetime_seconds or 3600) * share)
    return f"grant refresh={'yes' if g.refresh_token else 'no'} life={g.lifetime_seconds}"
def member():
    from partium_auth.models import Identity, Organization
    from partium_auth.services import add_member
    for i in Identity.objects.filter(issuer=S.ISSUER):
        try: add_member(Organization.objects.get(org_id="acme"), i.user)
        except Exception:
            from partium_auth.models import Membership
            Membership.objects.get_or_create(organization=Organization.objects.get(org_id="acme"), user=i.user)
def walk(name, i, note):
    """What a person does for this module. Returns the last page."""
    p = Person(); note["person"] = p
    if tag == "bogus":  # anybody can send this: a logout token with a made-up key id, just before the provider's keys change
        import jwt
        from cryptography.hazmat.primitives.asymmetric import rsa
        t = jwt.encode({"iss": S.ISSUER}, rsa.generate_private_key(65537, 2048), algorithm="RS256", headers={"kid": "made-up"})
        note["steps"].append(f"made-up logout token: {requests.post(S.SITE + '/partium/backchannel-logout/' + SLUG + '/', data={'logout_token': t}, verify=False).status_code}")
    if register is not None:  # what whoever runs the site does by hand: the product itself registers nowhere
        g = requests.get(S.ISSUER + ".well-known/openid-configuration", verify=False).json()
        g = requests.post(g["registration_endpoint"], verify=False, json={"client_name": "partium_auth", "redirect_uris": [S.SITE + f"/partium/callback/{SLUG}/"], "response_types": ["code"], "grant_types": ["authorization_code"], "contacts": ["a@example.com"], "application_type": "web", **register})
        note["steps"].append(f"registered by hand: {g.status_code}"); g = g.json()
        settings.OIDC_RP_CLIENT_ID, settings.OIDC_RP_CLIENT_SECRET = g.get("client_id"), g.get("client_secret")
    if "signing-key-rotation" in name and "just-before" not in name:
        r = p.login(); note["steps"].append("1: " + text(r)); q = Person(); note["person"] = q; return q.login()
    if "form-post-error" in name:
        settings.OIDC_AUTH_REQUEST_EXTRA_PARAMS = {"response_mode": "form_post", "max_age": 0}
        r = p.login(prompt="none"); del settings.OIDC_AUTH_REQUEST_EXTRA_PARAMS; return r
    if "refresh-token" in name:
        r = p.login(); member(); note["steps"].append("1: " + text(r)); note["steps"].append(expire())
        u = p.s.get(S.SITE + "/userinfo/", allow_redirects=False); note["steps"].append(f"site's own userinfo call with the renewed token: {u.status_code} {u.text[:120] if u.status_code == 200 else u.headers.get('Location', '')[:80]}")
        return r
    if "3rd-party-init" in name:
        for _ in range(40):
            b = api("GET", f"runner/{i}").get("browser") or {}
            if b.get("urls"): break
            time.sleep(.25)
        url = b["urls"][0]; note["steps"].append("initiate " + url); A.post(API + f"/api/runner/browser/{i}/visit", params={"url": url})
        return p.settle(p.follow("GET", url))
    if "discovery-jwks-uri-keys" in name:  # over once the keys are fetched, as the next one is: so that no call of userinfo follows
        settings.OIDC_RP_SCOPES, settings.PARTIUM_ORGANIZATIONS_CLAIM = "openid", "sub"
        r = p.login(); settings.OIDC_RP_SCOPES = "openid email profile"; del settings.PARTIUM_ORGANIZATIONS_CLAIM; return r
    if "discovery-openid-config" in name:  # over once the document is fetched; the suite takes what comes after as an error of the test
        r = p.s.get(S.SITE + f"/partium/login/{SLUG}/", allow_redirects=False); note["steps"].append(f"{r.status_code} to {r.headers.get('Location', '')[:70]} (not followed)"); return r
    if "logout" in name or "session-management" in name:
        r = p.login(); note["steps"].append("1: " + text(r) + f" as {p.who()}")
        if "opinit" in name or "op-initiated" in name.lower():
            e = api("GET", f"runner/{i}"); note["steps"].append("exposed " + json.dumps(e.get("exposed", {}))[:200])
            x = p.s.get(S.ISSUER + "frontchannel_logout_handler"); note["steps"].append(f"handler {x.status_code}")
            return x
        if MODE == "strict":
            from partium_auth.models import Grant
            g = Grant.objects.filter(kind="oidc", revoked_at=None).order_by("-created_at").first()
            r = requests.get(S.ISSUER + "end_session_endpoint", params={"id_token_hint": g.id_token.reveal(), "post_logout_redirect_uri": S.SITE + "/partium/login/", "state": "x"}, allow_redirects=False, verify=False, timeout=60)
            note["steps"].append(f"log-out elsewhere: {r.status_code}"); return p.s.get(S.SITE + "/", allow_redirects=False)
        if "frontchannel" in name and "opinit" not in name:
            r = p.logout(); u = re.search(r"https:[^\"']*frontchannel-logout[^\"']*", r.text.replace("\\/", "/")); x = p.s.get(u[0].replace("&amp;", "&")) if u else None
            note["steps"].append(f"iframe {u and u[0][:120]} -> {x is not None and x.status_code}"); p.s.get(S.ISSUER + "frontchannel_logout_callback"); return r
        r = p.logout(); note["steps"].append("log-out URL: " + re.sub(r"(id_token_hint=)[^&]+", r"\1…", "|".join(p.trail[-3:]))[:300]); return r
    if tag == "initiate": p.s.headers["Referer"] = S.ISSUER; return p.login(iss=S.ISSUER, target_link_uri=S.SITE + "/who/", login_hint="user@example.com")
    if tag == "initiate-post": return p.settle(p.follow("POST", S.SITE + f"/partium/login/{SLUG}/", data={"iss": S.ISSUER}))
    return p.login()
if tag.startswith("strict"): MODE = "strict"
P = api("POST", "plan", params={"planName": plan, "variant": json.dumps(variant)} if variant else {"planName": plan}, json=CONFIG)
print("PLAN", plan, variant, P["id"], f"{API}/plan-detail.html?plan={P['id']}", flush=True)
out = open(S.W / "results.jsonl", "a")
for m in P["modules"]:
    name, v = m["testModule"], m.get("variant")
    if only and not any((o[1:] == name) if o[0] == "=" else o in name for o in only): continue
    if not keep: S.forget()
    elif P["modules"].index(m): time.sleep(pause)
    S.LINES.clear(); S.ACCESS.clear(); note = {"steps": []}; r = None; i = None
    try:
        t = api("POST", "runner", headers={"Content-Type": "application/json"}, params={"test": name, "plan": P["id"], **({"variant": json.dumps(v)} if v else {})}); i = t["id"]
        x = wait(i, ("WAITING", "CONFIGURED", "FINISHED", "INTERRUPTED"), 60)
        if x["status"] == "CONFIGURED": api("POST", f"runner/{i}"); x = wait(i, ("WAITING", "FINISHED", "INTERRUPTED"), 30)
        if x["status"] == "WAITING" or "3rd-party" in name: r = walk(name, i, note)
        x = wait(i, ("FINISHED", "INTERRUPTED"), 14)
        who = note["person"].who() if "person" in note else None
        log = api("GET", f"log/{i}")
    except Exception as e:
        x = {"status": "DRIVER", "result": repr(e)[:400]}; who = None; log = api("GET", f"log/{i}") if i else []
    bad = [f"{e.get('result')}: {e.get('src')}: {e.get('msg')}" for e in log if e.get("result") in ("FAILURE", "WARNING", "REVIEW", "INTERRUPTED") or (e.get("result") == "INFO" and "skip" in str(e.get("msg", "")).lower() and e.get("src") == name)]
    calls = [e.get("http") and f"{e.get('incoming_method','')} {e.get('incoming_path','')}" for e in log if e.get("http") == "incoming"]
    row = {"plan": plan, "tag": tag, "variant": variant, "mvariant": v, "module": name, "id": i, "status": x.get("status"), "result": x.get("result"), "user": who, "page": text(r), "steps": note["steps"],
           "calls": [re.sub(r".*/test/a/partium/", "", str(c)) for c in calls], "bad": bad, "site": [l for l in S.LINES if "GET /" not in l][:8], "trail": note["person"].trail if "person" in note else []}
    out.write(json.dumps(row) + "\n"); out.flush()
    print(f"{name:62} {row['status']:11} {row['result'] or '-':8} user={bool(who)} {row['page']} {row['calls']}", flush=True)
    for s in note["steps"]: print("      ", s)
    for b in bad: print("      ", b[:400])
    for l in row["site"]: print("       site|", l[:260])
    if x.get("status") in ("WAITING", "RUNNING", "CONFIGURED") and i:
        try: A.delete(API + f"/api/runner/{i}", timeout=30)
        except Exception: pass
S.os._exit(0)
