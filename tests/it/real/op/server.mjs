// Starts an authorization server for one test and takes orders for it on a second, private port.
//
//   node server.mjs '{"clientId": …}'
//
// When both listen, one line of JSON is printed: {"issuer": …, "control": …}. The program ends with its standard input,
// so that it never outlives the test that started it.

import { createServer } from 'node:http';
import { createServer as createTlsServer } from 'node:https';

import { TokenEndpoint } from './faults.mjs';
import { makeProvider } from './provider.mjs';

const HOST = '127.0.0.1';

// Standard output belongs to the one line; the provider's own remarks are for people.
console.info = console.error;
console.log = console.error;

process.stdin.on('close', () => process.exit(0)).resume();

const options = JSON.parse(process.argv[2]);
const server = createServer();
const issuer = await bindBelowTheEphemeralPorts(server);
const tlsServer = options.tls && await tlsServerOf(options.tls);
const { provider, isActive, boundTo, keyOf } = makeProvider(issuer, options, tlsServer?.url);
const tokens = new TokenEndpoint();
// Koa runs what is attached first outermost, and the provider's own routes last.
tokens.attach(provider);
server.on('request', provider.callback());
tlsServer?.server.on('request', provider.callback());

const control = createServer((request, response) => {
  obey(request).then(
    (answer) => respond(response, 200, answer ?? {}),
    (error) => respond(response, 400, { error: error.message }),
  );
});
await listen(control, 0);
process.stdout.write(`${JSON.stringify({ issuer, control: urlOf(control) })}\n`);

/** Listens with TLS, where clients may show a certificate: the provider judges it. */
async function tlsServerOf({ certificate, key, ca }) {
  const tls = createTlsServer({ cert: certificate, key, ca, requestCert: true, rejectUnauthorized: false });
  await listen(tls, 0);
  return { server: tls, url: `https://localhost:${tls.address().port}` };
}

/** Carries out one order from the control port. */
async function obey(request) {
  const url = new URL(request.url, issuer);
  switch (`${request.method} ${url.pathname}`) {
    case 'GET /stats': return tokens.stats;
    case 'GET /issued': return tokens.issued;
    case 'GET /introspect': {
      const token = url.searchParams.get('token');
      return { active: await isActive(token), jkt: await keyOf(token) };
    }
    case 'GET /bound': return { to: await boundTo(url.searchParams.get('token')) };
    case 'POST /delay': {
      const { before = 0, after = 0 } = await bodyOf(request);
      tokens.delay = { before, after };
      return undefined;
    }
    case 'POST /cut': {
      tokens.cuts = (await bodyOf(request)).n;
      return undefined;
    }
    case 'POST /down': return close();
    case 'POST /up': return listen(server, Number(new URL(issuer).port));
    default: throw new Error(`no such order: ${request.method} ${url.pathname}`);
  }
}

/** Refuses connections and drops those that are open; what is being processed is processed to its end. */
function close() {
  return new Promise((resolve) => {
    server.close(() => resolve());
    server.closeAllConnections();
  });
}

/**
 * Binds a free port that the system never gives away by itself, so that nobody is given it while this server is down.
 * The text of the issuer has to be known before the provider is made, hence the port before the provider.
 */
async function bindBelowTheEphemeralPorts(unbound) {
  for (let tries = 0; tries < 100; tries += 1) {
    try {
      await listen(unbound, 20000 + Math.floor(Math.random() * 12000));
      return urlOf(unbound);
    } catch (error) {
      if (error.code !== 'EADDRINUSE') throw error;
    }
  }
  throw new Error('found no free port');
}

function listen(unbound, port) {
  return new Promise((resolve, reject) => {
    unbound.once('error', reject);
    unbound.listen(port, HOST, () => {
      unbound.off('error', reject);
      resolve();
    });
  });
}

function urlOf(bound) {
  return `http://${HOST}:${bound.address().port}`;
}

async function bodyOf(request) {
  let text = '';
  for await (const chunk of request) text += chunk;
  return JSON.parse(text);
}

function respond(response, status, body) {
  response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
}
