// What may go wrong at the token endpoint, on demand, and the count of what happened there.

/** The state behind the control port. */
export class TokenEndpoint {
  stats = {
    token_requests: 0,
    code_grants_ok: 0,
    code_grants_failed: 0,
    refresh_grants_ok: 0,
    refresh_grants_failed: 0,
    reuse_detected: 0,
    grants_revoked: 0,
    codes: 0,
    backchannel_ok: 0,
    backchannel_failed: 0,
    /** Why requests were refused, in the provider's own words, which its answers leave out. */
    refusals: [],
  };

  /** Every token that was ever made, also those whose answers were cut. */
  issued = [];

  delay = { before: 0, after: 0 };

  cuts = 0;

  #turn = Promise.resolve();

  /** Counts what `provider` reports, and stands in front of its token endpoint. */
  attach(provider) {
    const { stats } = this;
    const refused = (why, err) => stats.refusals.push(`${why}: ${err.error ?? err.message}: ${err.error_detail ?? ''}`);

    provider.on('authorization_code.saved', () => { stats.codes += 1; });
    provider.on('grant.revoked', () => { stats.grants_revoked += 1; });
    provider.on('backchannel.success', () => { stats.backchannel_ok += 1; });
    provider.on('backchannel.error', (ctx, err) => {
      stats.backchannel_failed += 1;
      refused('backchannel logout', err);
    });
    provider.on('grant.success', (ctx) => { stats[`${grantOf(ctx)}_grants_ok`] += 1; });
    provider.on('grant.error', (ctx, err) => {
      stats[`${grantOf(ctx)}_grants_failed`] += 1;
      if (err.error_detail === 'refresh token already used') stats.reuse_detected += 1;
      refused(`${grantOf(ctx)} grant`, err);
    });
    for (const event of ['authorization.error', 'end_session.error', 'revocation.error', 'server_error']) {
      provider.on(event, (ctx, err) => refused(event, err));
    }
    provider.use((ctx, next) => (ctx.path === '/token' ? this.#answer(ctx, next) : next()));
  }

  async #answer(ctx, next) {
    this.stats.token_requests += 1;
    const cut = this.cuts > 0;
    if (cut) this.cuts -= 1;
    const { before, after } = this.delay;

    // Read whole before anything else: a client that leaves meanwhile does not stop what it asked for.
    const chunks = [];
    for await (const chunk of ctx.req) chunks.push(chunk);
    ctx.req.body = Buffer.concat(chunks);

    await sleep(before);
    await this.#alone(next);
    for (const name of ['access_token', 'refresh_token', 'id_token']) {
      if (ctx.body?.[name]) this.issued.push(ctx.body[name]);
    }
    await sleep(after);

    if (cut) {
      ctx.respond = false;
      ctx.req.socket.destroy();
    }
  }

  /** One request at a time: of two uses of one token, the second is always seen as the second. */
  async #alone(work) {
    const mine = this.#turn.then(work);
    this.#turn = mine.catch(() => {});
    await mine;
  }
}

function grantOf(ctx) {
  return ctx.oidc.params?.grant_type === 'refresh_token' ? 'refresh' : 'code';
}

function sleep(milliseconds) {
  return new Promise((resolve) => { setTimeout(resolve, milliseconds); });
}
