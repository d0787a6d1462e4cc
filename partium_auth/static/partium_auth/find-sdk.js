/* Gives Partium's Find SDK an access token, and another one before it expires. The token is kept in this closure only. */
(function () {
  "use strict";
  const options = document.currentScript.dataset;
  const nonce = document.currentScript.nonce;
  const FIRST_WAIT_SECONDS = 5; // then twice as long each time
  const LONGEST_WAIT_SECONDS = 300;
  const LONGEST_TIMER_SECONDS = 86400; // a timer of more than 2^31 ms fires at once
  let current = null; // { value, at, renewAfter, endsAfter }
  let pending = null;
  let timer = 0;
  let isDue = false; // a renewal that waits for somebody to look at the page
  let failures = 0;
  let waiting = null; // { at, seconds }: until then nobody asks

  function announce(name) {
    document.dispatchEvent(new CustomEvent("partium:" + name));
  }

  // No change of the clock moves performance.now(), but on some systems it stands still while the machine sleeps.
  function now() {
    return { steady: performance.now(), wall: Date.now() };
  }

  function secondsSince(moment) {
    return Math.max(performance.now() - moment.steady, Date.now() - moment.wall) / 1000;
  }

  async function request() {
    const at = now();
    let status = 0;
    let retryAfter = 0;
    let isOutdated = false; // in another tab somebody has logged in, or switched to another organization
    try {
      const response = await fetch(options.tokenUrl, {
        method: "POST",
        credentials: "same-origin",
        cache: "no-store",
        headers: { Accept: "application/json", "X-CSRFToken": options.csrfToken },
      });
      status = response.status;
      retryAfter = Number(response.headers.get("Retry-After"));
      const answer = response.ok ? await response.json() : {};
      isOutdated = status === 403 || (typeof answer.organization === "string" && answer.organization !== options.organization);
      if (!isOutdated && typeof answer.access_token === "string" && answer.expires_in > 0) {
        return keep(answer, at);
      }
    } catch {
      /* no network, or an answer of something in between */
    }
    failures += 1;
    const longer = Math.min(FIRST_WAIT_SECONDS * 2 ** (failures - 1), LONGEST_WAIT_SECONDS);
    waiting = { at: now(), seconds: retryAfter > 0 ? Math.min(retryAfter, LONGEST_WAIT_SECONDS) : longer };
    if (status === 401) {
      announce("login");
      throw new Error("Log in again.");
    }
    if (isOutdated) {
      current = null;
      announce("reload");
      throw new Error("Load the page again.");
    }
    schedule(waiting.seconds);
    throw new Error("No access token right now; trying again in " + waiting.seconds + " s.");
  }

  function keep(answer, at) {
    const seconds = answer.expires_in;
    // Early enough that the server has a token to go on with while it gets another one.
    const early = Math.min(seconds / 4, Math.max(30, Math.min(240, seconds * 0.08)));
    current = { value: answer.access_token, at: at, renewAfter: Math.max(1, seconds - early), endsAfter: seconds - 2 };
    failures = 0;
    waiting = null;
    schedule(current.renewAfter - secondsSince(at));
    return current.value;
  }

  function token() {
    const age = current ? secondsSince(current.at) : Infinity;
    if (current && age < current.renewAfter) {
      return Promise.resolve(current.value);
    }
    // What is left of the old token is better than an error.
    const rest = current && age < current.endsAfter ? current.value : null;
    if (waiting && secondsSince(waiting.at) < waiting.seconds) {
      return rest ? Promise.resolve(rest) : Promise.reject(new Error("No access token right now."));
    }
    if (!pending) {
      pending = request().finally(function () {
        pending = null;
      });
    }
    return pending.catch(function (error) {
      if (rest && current) {
        return rest;
      }
      throw error;
    });
  }

  function schedule(seconds) {
    clearTimeout(timer);
    timer = setTimeout(refresh, Math.min(Math.max(1, seconds), LONGEST_TIMER_SECONDS) * 1000);
  }

  function refresh() {
    const left = current ? current.renewAfter - secondsSince(current.at) : 0;
    if (left > 0) {
      schedule(left); // the timer came early, or could not be set for longer
      return;
    }
    isDue = document.hidden;
    if (!isDue) {
      waiting = null; // the timer was the wait
      token().then(start, ignore);
    }
  }

  function ignore() {
    /* another attempt is scheduled, or the person has been told to log in */
  }

  function start(value) {
    announce("token"); // for a page that bundles the SDK: window.Partium is not there
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
      script.nonce = nonce;
      script.onload = resolve;
      script.onerror = reject;
      document.head.append(script);
    });
  }

  document.addEventListener("visibilitychange", function () {
    if (document.hidden) {
      return;
    }
    if (isDue) {
      refresh();
    } else if (current && secondsSince(current.at) >= current.renewAfter) {
      token().then(start, ignore); // the machine has slept, and the timer with it
    }
  });

  window.partiumAuth = Object.freeze({ token: token, organization: options.organization });
  load().then(token).then(start, ignore);
})();
