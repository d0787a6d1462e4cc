/* A stand-in for Partium's Find SDK, which comes from Partium's own host. What is here has the names, parameters and results of
   the SDK's documentation, so that a page written for it works with the SDK. It does not do all that the SDK does. */
(() => {
  "use strict";

  let bearer = null;
  let externalUserId = null;

  window.AUTHENTICATION_METHOD = Object.freeze({ OAUTH: "OAUTH" });
  window.OauthApiKeyAuthenticationConfig = class {
    constructor(options) { Object.assign(this, options); }
  };
  window.PartiumConfig = class {
    constructor(options) { Object.assign(this, options); }
  };

  async function search(input, projection, { limit = 25, skip = 0 }, signal) {
    const { apiUrl } = document.querySelector("[data-api-url]").dataset;
    const headers = { "Content-Type": "application/json", Authorization: `Bearer ${bearer}` };
    if (externalUserId) headers["X-Partium-ExternalUserId"] = externalUserId;
    const filters = Object.entries(input.attributeFilters ?? {}).map(([label, values]) => ({ label, values }));
    const response = await fetch(`${apiUrl}/1/find/search`, {
      method: "POST",
      credentials: "omit",
      headers,
      signal,
      body: JSON.stringify({
        language: input.searchLanguage,
        projection: projection.map((name) => `results.${name}`),
        matches: { organization: input.organizationName, text: input.text, hierarchy: input.hierarchyFilters, filters: filters.length ? filters : undefined },
        resultOptions: { limit, skip },
      }),
    });
    if (!response.ok) throw Object.assign(new Error("The search was refused."), { status: response.status });
    const found = await response.json();
    return {
      searchResults: found.results ?? [],
      searchInput: { ...input, searchSessionId: found.sessionId },
      resultsTotalCount: found.resultsTotalCount ?? found.total,
    };
  }

  window.Partium = {
    initApiKey(keyOrToken) {
      bearer = keyOrToken;
      externalUserId = null;
    },
    init(config) {
      bearer = config.authenticationConfig.apiKey;
      externalUserId = config.authenticationConfig.externalUserId;
    },
    search: {
      // Returns an observable: subscribe(output => …, error => …) starts the search, unsubscribe() stops it.
      performSearch(input, _searchEventContext = {}, projection = ["id", "name", "previewData"], resultOptions = {}) {
        return {
          subscribe(next, fail = () => {}) {
            const stop = new AbortController();
            search(input, projection, resultOptions, stop.signal).then(next, (error) => stop.signal.aborted || fail(error));
            return { unsubscribe: () => stop.abort() };
          },
        };
      },
    },
  };
})();
