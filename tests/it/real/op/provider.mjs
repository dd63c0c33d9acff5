// The authorization server itself: oidc-provider, strict about everything, with a user who always agrees.

import { createPublicKey, generateKeyPairSync, randomBytes, randomUUID, verify, X509Certificate } from 'node:crypto';

import Provider from 'oidc-provider';

import { unboundedAdapter } from './adapter.mjs';

const USER = { sub: 'ada', name: 'Ada Lovelace', email: 'ada@example.com', email_verified: true };
const DAY = 24 * 60 * 60;
const AGREE_TO_LOGOUT = '/agree-to-logout';

/**
 * Makes the provider for `issuer`. The members of `options` are described where the tests fill them in, in
 * `tests/it/support/op.rs`. `tlsUrl` is where the same server checks certificates, if it does.
 */
export function makeProvider(issuer, options, tlsUrl) {
  const alg = options.fapi ? 'ES256' : 'RS256';
  const { privateKey } = options.fapi
    ? generateKeyPairSync('ec', { namedCurve: 'P-256' })
    : generateKeyPairSync('rsa', { modulusLength: 2048 });
  const signingKey = { ...privateKey.export({ format: 'jwk' }), kid: randomUUID(), alg, use: 'sig' };

  const provider = new Provider(issuer, {
    adapter: unboundedAdapter(),
    clients: [clientOf(options)],
    clientAuthMethods: [options.clientAuthentication],
    ...(tlsUrl && { discovery: { mtls_endpoint_aliases: aliasesAt(tlsUrl) } }),
    jwks: { keys: [signingKey] },
    cookies: { keys: [randomUUID()] },
    // With any tolerance an expired token goes on working.
    clockTolerance: 0,
    scopes: ['openid', 'profile', 'email', 'offline_access', 'api'],
    claims: { openid: ['sub'], profile: ['name'], email: ['email', 'email_verified'] },
    conformIdTokenClaims: false,
    findAccount: async (ctx, id) => ({ accountId: id, claims: async () => ({ ...USER, sub: id }) }),
    pkce: { required: () => true },
    rotateRefreshToken: options.rotation === 'always',
    issueRefreshToken: async (ctx, client, source) => options.refreshTokens === 'always'
      || (options.refreshTokens === 'offline_access' && source.scopes.has('offline_access')),
    // A refresh token lives as long as it says, not as long as the user's session here.
    expiresWithSession: async () => false,
    ttl: {
      AccessToken: options.accessTokenSeconds,
      AuthorizationCode: 60,
      RefreshToken: options.refreshTokenSeconds,
      IdToken: 60 * 60,
      Interaction: 600,
      Session: DAY,
      Grant: DAY,
    },
    features: {
      devInteractions: { enabled: false },
      userinfo: { enabled: options.accessTokens === 'opaque' },
      revocation: { enabled: true },
      introspection: { enabled: true },
      backchannelLogout: { enabled: true },
      rpInitiatedLogout: { enabled: true, logoutSource: agreeToLogout },
      pushedAuthorizationRequests: { enabled: true, requirePushedAuthorizationRequests: options.requirePushed },
      fapi: { enabled: options.fapi, profile: '2.0' },
      dPoP: { enabled: true, nonceSecret: randomBytes(32), requireNonce: () => true },
      requestObjects: { enabled: true, requireSignedRequestObject: options.requireSigned },
      ...(tlsUrl && {
        mTLS: {
          enabled: true,
          tlsClientAuth: true,
          selfSignedTlsClientAuth: true,
          certificateBoundAccessTokens: true,
          getCertificate: (ctx) => ctx.socket.getPeerX509Certificate?.(),
          certificateAuthorized: (ctx) => ctx.socket.authorized === true,
          certificateSubjectMatches: (ctx, property, expected) => property === 'tls_client_auth_san_dns'
            && ctx.socket.getPeerX509Certificate().checkHost(expected) !== undefined,
        },
      }),
      resourceIndicators: {
        enabled: options.accessTokens === 'jwt',
        defaultResource: () => options.audience,
        useGrantedResource: () => true,
        getResourceServerInfo: (ctx, resource) => ({
          scope: 'api',
          audience: resource,
          accessTokenTTL: options.accessTokenSeconds,
          accessTokenFormat: 'jwt',
          jwt: { sign: { alg: 'RS256' } },
        }),
      },
    },
    interactions: { url: (ctx, interaction) => `/interaction/${interaction.uid}` },
    // Its own fetch refuses to speak to loopback, where all the clients of these tests live.
    // It takes keys from https alone; TLS ends before the clients of these tests.
    fetch: (url, { dispatcher, ...rest }) => fetch(String(url).replace(/^https:\/\/localhost/, 'http://localhost'), rest),
  });

  provider.use((ctx, next) => postAgreement(options, ctx, next));
  provider.use((ctx, next) => (ctx.path.startsWith('/interaction/') ? interact(provider, ctx) : next()));
  return {
    provider,
    isActive: (token) => isActive(provider, createPublicKey(privateKey), token),
    // RFC 8705 section 3.1: the certificate that a token is bound to.
    boundTo: async (token) => (await provider.AccessToken.find(token))?.['x5t#S256'] ?? null,
    // RFC 9449 section 6.1: the key that it is bound to.
    keyOf: async (token) => (await provider.AccessToken.find(token))?.jkt,
  };
}

/** The endpoints that a client has to be known at, where certificates are checked. */
function aliasesAt(url) {
  return {
    token_endpoint: `${url}/token`,
    revocation_endpoint: `${url}/token/revocation`,
    pushed_authorization_request_endpoint: `${url}/request`,
  };
}

/** The key of a certificate, with the certificate: what a client registers that signs its own. */
function keyOf(pem) {
  const certificate = new X509Certificate(pem);
  return { ...certificate.publicKey.export({ format: 'jwk' }), x5c: [certificate.raw.toString('base64')] };
}

function clientOf(options) {
  return {
    client_id: options.clientId,
    ...(options.clientAuthentication.startsWith('client_secret_') && { client_secret: options.clientSecret }),
    ...(options.jwksUri && { jwks_uri: options.jwksUri }),
    ...(options.clientCertificate && { jwks: { keys: [keyOf(options.clientCertificate)] } }),
    ...(options.clientCertificateName && { tls_client_auth_san_dns: options.clientCertificateName }),
    token_endpoint_auth_method: options.clientAuthentication,
    ...(options.clientSignsBy && { token_endpoint_auth_signing_alg: options.clientSignsBy }),
    dpop_bound_access_tokens: options.dpop,
    grant_types: ['authorization_code', 'refresh_token'],
    response_types: ['code'],
    ...(options.fapi && { id_token_signed_response_alg: 'ES256', tls_client_certificate_bound_access_tokens: true }),
    redirect_uris: options.redirectUris,
    post_logout_redirect_uris: options.postLogoutRedirectUris,
    ...(options.backchannelLogoutUri && {
      backchannel_logout_uri: options.backchannelLogoutUri,
      backchannel_logout_session_required: true,
    }),
  };
}

/** Signs the user in and consents to all that is asked, by redirects alone. */
async function interact(provider, ctx) {
  const { prompt, params, session, grantId } = await provider.interactionDetails(ctx.req, ctx.res);
  ctx.respond = false;
  if (prompt.name === 'login') {
    const result = { login: { accountId: USER.sub } };
    await provider.interactionFinished(ctx.req, ctx.res, result, { mergeWithLastSubmission: false });
    return;
  }
  const grant = (grantId && await provider.Grant.find(grantId))
    || new provider.Grant({ accountId: session.accountId, clientId: params.client_id });
  const { missingOIDCScope, missingOIDCClaims, missingResourceScopes } = prompt.details;
  if (missingOIDCScope) grant.addOIDCScope(missingOIDCScope.join(' '));
  if (missingOIDCClaims) grant.addOIDCClaims(missingOIDCClaims);
  for (const [resource, scopes] of Object.entries(missingResourceScopes ?? {})) {
    grant.addResourceScope(resource, scopes.join(' '));
  }
  const result = { consent: { grantId: await grant.save() } };
  await provider.interactionFinished(ctx.req, ctx.res, result, { mergeWithLastSubmission: true });
}

/** In place of the page that asks "do you want to sign out?": on to the answer. */
async function agreeToLogout(ctx, form) {
  const [, proof] = form.match(/name="xsrf" value="([^"]+)"/);
  ctx.redirect(`${AGREE_TO_LOGOUT}?${new URLSearchParams({ xsrf: proof })}`);
}

/** Turns the redirect of `agreeToLogout` into the form post that the provider waits for. Who declines sends no `logout`. */
async function postAgreement(options, ctx, next) {
  if (ctx.path === AGREE_TO_LOGOUT) {
    ctx.req.body = `${options.declineLogout ? '' : 'logout=yes&'}xsrf=${encodeURIComponent(ctx.query.xsrf)}`;
    ctx.req.headers['content-type'] = 'application/x-www-form-urlencoded';
    ctx.req.headers['content-length'] = String(ctx.req.body.length);
    // What was sent has no body; once it is read to its end, the provider takes ours.
    for await (const _ of ctx.req);
    ctx.method = 'POST';
    ctx.url = '/session/end/confirm';
  }
  await next();
}

/** Whether a resource server should take this access token now. */
async function isActive(provider, key, token) {
  const [header, payload, signature] = token.split('.');
  if (signature === undefined) return (await provider.AccessToken.find(token)) !== undefined;
  const signed = Buffer.from(`${header}.${payload}`);
  if (!verify('sha256', signed, key, Buffer.from(signature, 'base64url'))) return false;
  return JSON.parse(Buffer.from(payload, 'base64url')).exp > Date.now() / 1000;
}
