// Where the provider keeps what it issues: one Map, without the bound that its own memory adapter has.

/** The models that end together with the grant they belong to. */
const GRANTABLE = new Set(['AccessToken', 'AuthorizationCode', 'RefreshToken']);

/** Makes the adapter factory of one provider; what one keeps, another never sees. */
export function unboundedAdapter() {
  const entries = new Map();
  const byUid = new Map();
  const byGrant = new Map();

  return (model) => {
    const keyOf = (id) => `${model}:${id}`;

    const find = async (id) => {
      const entry = entries.get(keyOf(id));
      if (!entry || entry.expires <= Date.now()) return undefined;
      // A copy, as a database would give: nobody changes an entry but through this adapter.
      return structuredClone(entry.payload);
    };

    return {
      find,
      findByUid: async (uid) => find(byUid.get(uid)),
      findByUserCode: async () => undefined,

      async upsert(id, payload, expiresIn) {
        const expires = expiresIn === undefined ? Infinity : Date.now() + expiresIn * 1000;
        entries.set(keyOf(id), { payload: structuredClone(payload), expires });
        if (model === 'Session') byUid.set(payload.uid, id);
        if (GRANTABLE.has(model) && payload.grantId) {
          const members = byGrant.get(payload.grantId) ?? new Set();
          byGrant.set(payload.grantId, members.add(keyOf(id)));
        }
      },

      async consume(id) {
        entries.get(keyOf(id)).payload.consumed = Math.floor(Date.now() / 1000);
      },

      async destroy(id) {
        entries.delete(keyOf(id));
      },

      async revokeByGrantId(grantId) {
        for (const key of byGrant.get(grantId) ?? []) entries.delete(key);
        byGrant.delete(grantId);
      },
    };
  };
}
