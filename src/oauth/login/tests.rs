use serde_json::json;

use super::*;
use crate::oauth::testing::{Key, NOW, begin, claims, client, fields, metadata, pending, proofs, redemption, tokens};

fn parse(query: &str) -> AuthorizationResponse {
    AuthorizationResponse::parse(query).expect("parses")
}

fn refusal(metadata: &AuthorizationServerMetadata, query: &str, now: Timestamp) -> Error {
    let (transaction, _) = begin(&client(), &LoginWishes::default());
    transaction.accept(parse(query), &client(), metadata, now).expect_err("is refused")
}

/// Finishes a login with an ID token of these claims.
fn finish(wishes: &LoginWishes, change: impl FnOnce(&mut Value)) -> Result<VerifiedLogin, Error> {
    let key = Key::es256();
    let (pending, nonce) = pending(&client(), wishes);
    let mut claims = claims(&nonce);
    change(&mut claims);
    let id_token = key.sign(&json!({ "alg": "ES256" }), &claims);
    pending.finish(&client(), &metadata(), &tokens(Some(&id_token)), &JwkSet::of(&[key.jwk("k", None)]), NOW)
}

fn wishing(max_age: Option<u64>, acr_values: Option<&str>) -> LoginWishes {
    LoginWishes { max_age, acr_values: acr_values.map(str::to_owned), ..LoginWishes::default() }
}

#[test]
fn every_login_has_its_own_challenge_and_nonce() {
    // BCP-2.1.1-01, BCP-2.1.1-02, OIDC-3.1.2.1-02
    let dice = crate::oauth::testing::Dice::default();
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..100 {
        let (_, asked) = LoginTransaction::begin(
            &client(),
            &metadata(),
            &LoginWishes::default(),
            State::new("s".into()),
            &Proofs { now: NOW, random: &dice },
        );
        for (name, value) in
            asked.url().query_pairs().filter(|(name, _)| *name == *"nonce" || *name == *"code_challenge")
        {
            assert_eq!(value.len(), 43, "{name}");
            assert!(seen.insert(value.into_owned()), "{name} repeats");
        }
    }
    assert_eq!(seen.len(), 200);
}

#[test]
fn a_transaction_survives_being_sealed() {
    let (transaction, url) = begin(&client(), &wishing(Some(60), Some("gold")));
    let bytes = postcard::to_stdvec(&transaction).expect("serialises");
    let transaction: LoginTransaction = postcard::from_bytes(&bytes).expect("reads");
    assert_eq!(transaction.scope(), "openid");
    let redemption = transaction.accept(parse("code=c1&state=s"), &client(), &metadata(), NOW).expect("is accepted");
    let request = redemption.redeem().0.request(&client(), &metadata(), &proofs());
    let verifier = fields(&request).into_iter().find(|(name, _)| name == "code_verifier").expect("is sent").1;
    let challenge = PkceVerifier::new(verifier).challenge();
    assert!(url.query_pairs().any(|(name, value)| name == "code_challenge" && value == challenge));
}

#[test]
fn a_code_is_redeemed_with_its_verifier_and_the_same_redirect_uri() {
    // O2-4.1.3-01, PKCE-4.5-01, CS-H-07
    let (redemption, _) = redemption(&client(), &LoginWishes::default());
    let request = redemption.redeem().0.request(&client(), &metadata(), &proofs());
    let fields = fields(&request);
    let names: Vec<&str> = fields.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["grant_type", "code", "redirect_uri", "code_verifier"]);
    assert_eq!(fields[0].1, "authorization_code");
    assert_eq!(fields[1].1, "c1");
    assert_eq!(fields[2].1, "https://app.test/bff/callback");
    assert_eq!(request.uri(), "https://as.test/token");
}

#[test]
fn a_response_of_another_login_is_refused_an_error_included() {
    // BCP-2.1-02, BCP-2.1-04, O2-4.1.2.1-01
    for query in ["code=c&state=other", "code=c&state=ss", "error=access_denied&state=other"] {
        assert_eq!(refusal(&metadata(), query, NOW), Error::Callback(CallbackFault::OtherState), "{query}");
    }
}

#[test]
fn a_login_takes_fifteen_minutes_at_most() {
    let limit = NOW + LoginTransaction::LIFETIME;
    let (transaction, _) = begin(&client(), &LoginWishes::default());
    assert!(transaction.accept(parse("code=c&state=s"), &client(), &metadata(), limit).is_ok());
    let late = limit + Duration::from_millis(1);
    assert_eq!(refusal(&metadata(), "code=c&state=s", late), Error::Callback(CallbackFault::Expired));
}

#[test]
fn an_announced_iss_is_required_and_any_iss_must_match() {
    // ISS-2.4-01, ISS-2.4-02, ISS-2.4-03, ISS-2.4-04
    let mut announcing = metadata();
    announcing.authorization_response_iss_parameter_supported = true;
    let good = "iss=https%3A%2F%2Fas.test";
    for metadata in [&announcing, &metadata()] {
        let (transaction, _) = begin(&client(), &LoginWishes::default());
        assert!(transaction.accept(parse(&format!("code=c&state=s&{good}")), &client(), metadata, NOW).is_ok());
        for iss in [
            "https://as.test/",
            "https://AS.test",
            "https://as.test:443",
            "http://as.test",
            "https://%61s.test",
            "https://as.testx",
        ] {
            for outcome in ["code=c", "error=access_denied"] {
                let iss: String = url::form_urlencoded::byte_serialize(iss.as_bytes()).collect();
                let error = refusal(metadata, &format!("{outcome}&state=s&iss={iss}"), NOW);
                assert_eq!(error, Error::Callback(CallbackFault::IssMismatch), "{iss}");
            }
        }
    }
    for query in ["code=c&state=s", "error=access_denied&state=s", "code=c&state=s&iss="] {
        assert_eq!(refusal(&announcing, query, NOW), Error::Callback(CallbackFault::IssMissing), "{query}");
    }
}

#[test]
fn a_login_that_was_started_at_another_issuer_is_not_finished_at_this_one() {
    // BCP-2.1-07, BCP-4.4-01
    let mut other = metadata();
    other.issuer = Issuer::new("https://as2.test".into());
    assert_eq!(refusal(&other, "code=c&state=s", NOW), Error::Callback(CallbackFault::OtherIssuer));
}

#[test]
fn an_error_of_this_login_is_the_issuers_refusal() {
    // O2-4.1.2.1-01, OIDC-3.1.2.6-01
    let error = refusal(&metadata(), "error=login_required&state=s&error_description=Nobody", NOW);
    let expected =
        Error::IssuerRefused { error: "login_required".into(), description: Some("Nobody".into()), status: None };
    assert_eq!(error, expected);
}

#[test]
fn a_finished_login_says_who_it_is() {
    let login = finish(&LoginWishes::default(), |claims| {
        claims["sid"] = "s1".into();
        claims["acr"] = "gold".into();
        claims["auth_time"] = (NOW.as_secs() - 5).into();
        claims["name"] = "Alice".into();
        claims["at_hash"] = Value::Null;
    })
    .expect("finishes");
    assert_eq!(login.issuer().as_str(), "https://as.test");
    assert_eq!(login.subject(), Some("alice"));
    assert_eq!(login.sid(), Some("s1"));
    assert_eq!(login.acr(), Some("gold"));
    assert_eq!(login.auth_time(), Some(Timestamp::from_secs(NOW.as_secs() - 5)));
    assert_eq!(login.issued_at(), NOW);
    assert!(login.original().nonce.is_some());
    let names: Vec<&str> = login.claims().keys().map(String::as_str).collect();
    assert_eq!(names, ["acr", "auth_time", "name", "sid"]);
}

#[test]
fn the_nonce_must_be_there_and_be_ours() {
    // OIDC-3.1.3.7-10, BCP-4.5-01
    for nonce in [json!("other"), json!(null), json!(""), json!(7)] {
        let error = finish(&LoginWishes::default(), |claims| claims["nonce"] = nonce.clone()).expect_err("is refused");
        assert!(error.to_string().contains("nonce"), "{error}");
    }
}

#[test]
fn max_age_is_enforced_on_what_comes_back() {
    // OIDC-3.1.3.7-12
    let at = |seconds_ago: u64| move |claims: &mut Value| claims["auth_time"] = (NOW.as_secs() - seconds_ago).into();
    assert!(finish(&wishing(Some(100), None), at(160)).is_ok());
    assert!(finish(&wishing(Some(100), None), at(161)).is_err());
    assert!(finish(&wishing(Some(0), None), at(0)).is_ok());
    assert!(finish(&wishing(Some(u64::MAX), None), at(1000)).is_ok());
    let error = finish(&wishing(Some(100), None), |_| {}).expect_err("is refused");
    assert!(error.to_string().contains("auth_time is absent"), "{error}");
    let error = finish(&wishing(None, None), |claims| claims["auth_time"] = "x".into()).expect_err("is refused");
    assert!(error.to_string().contains("auth_time is not a time"), "{error}");
}

#[test]
fn an_authentication_class_that_was_asked_for_must_be_reached() {
    // OIDC-3.1.3.7-11, STEP-5-01
    let acr = |acr: &'static str| move |claims: &mut Value| claims["acr"] = acr.into();
    assert!(finish(&wishing(None, Some("gold silver")), acr("silver")).is_ok());
    assert!(finish(&wishing(None, Some("gold silver")), acr("bronze")).is_err());
    assert!(finish(&wishing(None, Some("gold silver")), |_| {}).is_err());
    assert!(finish(&wishing(None, None), acr("bronze")).is_ok());
}

#[test]
fn a_login_without_an_id_token_is_none_with_openid_connect_and_nameless_with_plain_oauth() {
    // O2-10.16-01
    let (login, _) = pending(&client(), &LoginWishes::default());
    let error = login.finish(&client(), &metadata(), &tokens(None), &JwkSet::default(), NOW).expect_err("is refused");
    assert!(error.to_string().contains("id_token is absent"), "{error}");

    let oauth = Client { protocol: Protocol::OAuth, ..client() };
    let (login, _) = pending(&oauth, &LoginWishes::default());
    for id_token in [None, Some("not.even.one")] {
        let verified = login.finish(&oauth, &metadata(), &tokens(id_token), &JwkSet::default(), NOW).expect("finishes");
        assert_eq!((verified.subject(), verified.claims().len()), (None, 0));
    }
}

#[test]
fn a_login_can_be_finished_after_the_keys_were_fetched_anew() {
    // OIDC-10.1.1-01
    let (old, new) = (Key::es256(), Key::es256());
    let (pending, nonce) = pending(&client(), &LoginWishes::default());
    let tokens = tokens(Some(&new.sign(&json!({ "alg": "ES256", "kid": "new" }), &claims(&nonce))));
    let finish = |keys: &JwkSet| pending.finish(&client(), &metadata(), &tokens, keys, NOW);
    assert!(matches!(finish(&JwkSet::of(&[old.jwk("old", None)])), Err(Error::UnknownKey)));
    assert!(finish(&JwkSet::of(&[new.jwk("new", None)])).is_ok());
}

#[test]
fn a_login_prints_no_secret_on_its_way() {
    // BCP-4.9-01
    let (transaction, url) = begin(&client(), &LoginWishes::default());
    let nonce = url.query_pairs().find(|(name, _)| name == "nonce").expect("is sent").1.into_owned();
    let mut printed = format!("{transaction:?}");
    let redemption =
        transaction.accept(parse("code=canary&state=s"), &client(), &metadata(), NOW).expect("is accepted");
    printed.push_str(&format!("{redemption:?}"));
    let (_, pending) = redemption.redeem();
    printed.push_str(&format!("{pending:?}"));
    assert!(!printed.contains("canary") && !printed.contains(&nonce), "{printed}");
}
