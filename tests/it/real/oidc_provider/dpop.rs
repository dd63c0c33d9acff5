//! Tokens of `oidc-provider` that are bound to a key, by proofs that need its nonces.

use http::Method;

use super::site::{BURST, RealSite};
use crate::support::site::Texts;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs node and oidc-provider: run ./tests/run"]
async fn bound_tokens_are_issued_used_refreshed_and_revoked() {
    // DPOP-5-01, DPOP-7.1-01, DPOP-8-01, DPOP-8.2-01, DPOP-10-01, FAPI-5.3.3.1-08
    let texts = Texts {
        client: "dpop = true\nuserinfo = true\npar = \"always\"",
        more: "[logout]\norder = \"before\"",
        ..Texts::default()
    };
    let site = RealSite::told(|options| options.dpop = true, &texts).await;
    let browser = site.signed_in().await;
    let first = site.api.tokens().pop().unwrap();
    let key = site.provider.key_of(&first).await;
    assert!(key.is_some(), "the token is bound");
    for round in 1..=2 {
        site.until_expired(&browser).await;
        assert_eq!(site.burst(&browser).await, [200; BURST], "round {round}");
    }
    let newest = site.api.tokens().pop().unwrap();
    assert_ne!(newest, first);
    assert_eq!(site.provider.key_of(&newest).await, key, "one key for the whole session");
    assert_eq!(site.api.proofs.faults(), [""; 0]);
    assert_eq!(site.api.proofs.keys().into_iter().collect::<Vec<_>>(), [key.unwrap()]);

    let stats = site.provider.stats().await;
    assert!(stats.refresh_grants_ok >= 2 && stats.reuse_detected == 0 && stats.grants_revoked == 0, "{stats:?}");
    // Its nonce is the first thing that anybody hears of it, and the answers say the next.
    assert!(stats.refusals.iter().all(|refusal| refusal.contains("use_dpop_nonce")), "{stats:?}");
    assert!(stats.refusals.len() <= 1, "{stats:?}");

    let out = browser.fetch(Method::POST, &site.at("/bff/logout")).await;
    assert_eq!(out.status, 200, "{}", out.text());
    let revoked = async {
        while site.provider.is_active(&newest).await {
            tokio::time::sleep(std::time::Duration::from_millis(25)).await;
        }
    };
    tokio::time::timeout(crate::support::PATIENCE, revoked).await.unwrap();
}
