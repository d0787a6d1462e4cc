/* Gives Partium's Find SDK an access token, and another one before it expires. The token is kept in this closure only. */
(function () {
  "use strict";
  const options = document.currentScript.dataset;
  const RETRY_SECONDS = 5;
  let current = null; // { value, expiresAt, renewAt } by performance.now(), which no clock change moves
  let pending = null;
  let timer = 0;

  function announce(name) {
    document.dispatchEvent(new CustomEvent("partium:" + name));
  }

  async function request() {
    const startedAt = performance.now();
    const response = await fetch(options.tokenUrl, {
      method: "POST",
      credentials: "same-origin",
      cache: "no-store",
      headers: { Accept: "application/json", "X-CSRFToken": options.csrfToken },
    });
    if (response.status === 401) {
      announce("login");
      throw new Error("Log in again.");
    }
    if (!response.ok) {
      const seconds = Number(response.headers.get("Retry-After")) || RETRY_SECONDS;
      schedule(seconds * 1000);
      throw new Error("No access token right now; trying again in " + seconds + " s.");
    }
    const answer = await response.json();
    const lifetime = answer.expires_in * 1000;
    current = {
      value: answer.access_token,
      expiresAt: startedAt + lifetime - 2000,
      renewAt: startedAt + Math.max(1000, lifetime - 30000, lifetime * 0.75),
    };
    schedule(current.renewAt - performance.now());
    return current.value;
  }

  function token() {
    if (current && performance.now() < current.renewAt) {
      return Promise.resolve(current.value);
    }
    if (!pending) {
      pending = request().finally(function () {
        pending = null;
      });
    }
    // What is left of the old token is better than an error.
    return pending.catch(function (error) {
      if (current && performance.now() < current.expiresAt) {
        return current.value;
      }
      throw error;
    });
  }

  function schedule(milliseconds) {
    clearTimeout(timer);
    timer = setTimeout(function () {
      if (!document.hidden) {
        token().then(start, ignore);
      }
    }, Math.max(1000, milliseconds));
  }

  function ignore() {
    /* schedule() has been called, or the person has been told to log in */
  }

  function start(value) {
    const sdk = window.Partium;
    if (!sdk) {
      return;
    }
    if (options.externalUserId && window.PartiumConfig && window.OauthApiKeyAuthenticationConfig) {
      sdk.init(
        new window.PartiumConfig({
          authenticationMethod: window.AUTHENTICATION_METHOD.OAUTH,
          authenticationConfig: new window.OauthApiKeyAuthenticationConfig({
            apiKey: value,
            externalUserId: options.externalUserId,
          }),
        })
      );
    } else {
      sdk.initApiKey(value);
    }
    announce("ready");
  }

  function load() {
    if (!options.sdkUrl) {
      return Promise.resolve();
    }
    return new Promise(function (resolve, reject) {
      const script = document.createElement("script");
      script.src = options.sdkUrl;
      script.onload = resolve;
      script.onerror = reject;
      document.head.append(script);
    });
  }

  document.addEventListener("visibilitychange", function () {
    if (!document.hidden && current && performance.now() >= current.renewAt) {
      token().then(start, ignore);
    }
  });

  window.partiumAuth = Object.freeze({ token: token, organization: options.organization });
  load().then(token).then(start, ignore);
})();
