// A certified OpenID provider (https://github.com/panva/node-oidc-provider) for the tests: PKCE required, refresh tokens
// rotate and a reused one ends its whole family, RP-initiated and back-channel log-out, revocation. Anybody may log in
// under any name. "strict": clients prove themselves with key pairs (private_key_jwt) and push their authorization requests.
// Standard input: the configuration as JSON; standard output: one line when it listens.
import { generateKeyPairSync, randomUUID } from 'node:crypto'
import { createServer } from 'node:http'
import { readFileSync } from 'node:fs'
import { Provider } from 'oidc-provider'

const { site, clientSecret, strict } = JSON.parse(readFileSync(0, 'utf8'))
const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
const server = createServer()
await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve))
const issuer = `http://127.0.0.1:${server.address().port}`

const provider = new Provider(issuer, {
  clients: [{
    client_id: 'site',
    ...(strict
      ? { token_endpoint_auth_method: 'private_key_jwt', jwks_uri: `${site}/partium/jwks/default/` }
      : { client_secret: clientSecret }),
    grant_types: ['authorization_code', 'refresh_token'],
    redirect_uris: [`${site}/partium/callback/default/`],
    post_logout_redirect_uris: [`${site}/partium/login/`],
    backchannel_logout_uri: `${site}/partium/backchannel-logout/default/`,
    backchannel_logout_session_required: true,
  }],
  jwks: { keys: [{ ...privateKey.export({ format: 'jwk' }), kid: randomUUID(), use: 'sig', alg: 'RS256' }] },
  cookies: { keys: [randomUUID()] },
  findAccount: (ctx, id) => ({
    accountId: id,
    claims: () => ({ sub: id, email: `${id}@example.com`, email_verified: true, organizations: ['acme'] }),
  }),
  claims: { openid: ['sub', 'organizations'], email: ['email', 'email_verified'] },
  issueRefreshToken: async (ctx, client) => client.grantTypeAllowed('refresh_token'),
  rotateRefreshToken: true,
  // Its own fetch refuses loopback addresses, which is where the site is.
  fetch: (url, { dispatcher, ...options }) => fetch(url, options),
  ...(strict ? { clientAuthMethods: ['private_key_jwt'] } : {}),
  pkce: { required: () => true },
  ttl: { AccessToken: 600, IdToken: 600, RefreshToken: 3600, Session: 3600, Grant: 3600, Interaction: 600 },
  features: {
    devInteractions: { enabled: true },
    rpInitiatedLogout: { enabled: true },
    backchannelLogout: { enabled: true },
    revocation: { enabled: true },
    pushedAuthorizationRequests: { enabled: true, requirePushedAuthorizationRequests: strict },
  },
})
for (const event of ['backchannel.error', 'server_error']) {
  provider.on(event, (ctx, error) => console.error(event, error))
}
server.on('request', provider.callback())
console.log(issuer)
