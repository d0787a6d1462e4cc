/* A stand-in for Partium's Find SDK, which comes from Partium's own host: the same ways to start it, and one search.
   It shows what the page gives to the SDK; it is not the SDK. */
(() => {
  "use strict";

  const { apiUrl } = document.currentScript.dataset;
  let bearer = null;
  let externalUserId = null;

  window.AUTHENTICATION_METHOD = Object.freeze({ OAUTH: "OAUTH" });
  window.OauthApiKeyAuthenticationConfig = class {
    constructor(options) { Object.assign(this, options); }
  };
  window.PartiumConfig = class {
    constructor(options) { Object.assign(this, options); }
  };

  window.Partium = {
    initApiKey(keyOrToken) {
      bearer = keyOrToken;
      externalUserId = null;
    },
    init(config) {
      bearer = config.authenticationConfig.apiKey;
      externalUserId = config.authenticationConfig.externalUserId;
    },
    // Resolves to Partium's answer. Rejects with an Error that has the status, where there was one.
    async search({ organization, text, limit = 6 }) {
      const headers = { "Content-Type": "application/json", Authorization: `Bearer ${bearer}` };
      if (externalUserId) headers["X-Partium-ExternalUserId"] = externalUserId;
      const response = await fetch(`${apiUrl}/1/find/search`, {
        method: "POST",
        credentials: "omit",
        headers,
        body: JSON.stringify({
          language: "en",
          projection: ["results.id", "results.name", "results.previewData"],
          matches: { organization, text },
          resultOptions: { limit },
        }),
      });
      if (!response.ok) throw Object.assign(new Error("The search was refused."), { status: response.status });
      return response.json();
    },
  };
})();
