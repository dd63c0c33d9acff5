//! Servers that are one issuer per tenant: their metadata names a pattern, and each token names its own issuer.

use super::document::Document;
use super::error::Misbehaviour;
use super::metadata::AuthorizationServerMetadata;
use super::values::Issuer;

/// What stands for the tenant in the issuer of such a server's metadata.
pub(super) const PLACE: &str = "{tenantid}";

/// The issuers of a server that is one per tenant.
///
/// That a token is of one of them is not less than equality: its `tid` is put into the pattern, and `iss` has to be the
/// result letter by letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tenants {
    before: String,
    after: String,
    /// The tenants whose people may sign in; none means all.
    admitted: Option<Vec<String>>,
}

/// Whether a token has to say of which tenant it is, besides naming its issuer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Tid {
    /// It has to.
    Required,
    /// It need not: the tenant is read from `iss`.
    IfThere,
}

impl Tenants {
    /// The issuers of a server that is asked at `asked`, where `word` stands for the tenant, and whose metadata says that
    /// its issuer is `named`: the same address with a pattern, or with one tenant, in the place of the word.
    pub(super) fn read(asked: &Issuer, word: &str, named: &str, admitted: &[String]) -> Option<Self> {
        let (before, after) = asked.as_str().split_once(&format!("/{word}/"))?;
        let (before, after) = (format!("{before}/"), format!("/{after}"));
        let tenant = named.strip_prefix(&before)?.strip_suffix(&after)?;
        let listed = (!admitted.is_empty()).then(|| admitted.to_vec());
        let admitted = match listed {
            listed if tenant == PLACE => listed,
            _ if !is_uuid(tenant) => return None,
            Some(listed) => Some(listed.into_iter().filter(|it| it.eq_ignore_ascii_case(tenant)).collect()),
            None => Some(vec![tenant.to_owned()]),
        };
        Some(Self { before, after, admitted })
    }

    /// Whether nobody can sign in: the metadata names one tenant, and others are listed.
    pub(super) fn admit_nobody(&self) -> bool {
        self.admitted.as_ref().is_some_and(Vec::is_empty)
    }

    /// The issuer with this text, if it is that of a tenant, whether or not its people may sign in.
    pub fn issuer_named(&self, text: &str) -> Option<Issuer> {
        self.tenant_in(text).filter(|tenant| is_uuid(tenant)).map(|tenant| self.fill(tenant))
    }

    /// The issuer of a token.
    pub(super) fn examine(&self, claims: &Document, tid: Tid) -> Result<Issuer, Misbehaviour> {
        let iss = claims.required_text("iss")?;
        let tenant = match (claims.text("tid")?, tid) {
            (Some(tenant), _) => tenant,
            (None, Tid::Required) => return Err(claims.fault("tid", "is absent, and the issuer has many tenants")),
            (None, Tid::IfThere) => {
                self.tenant_in(iss).ok_or_else(|| claims.fault("iss", "is no tenant's issuer of this server"))?
            }
        };
        if !is_uuid(tenant) {
            return Err(claims.fault("tid", "is not a UUID"));
        }
        let issuer = self.fill(tenant);
        if issuer.as_str() != iss {
            return Err(claims.fault("iss", "is not the issuer of the tenant that tid names"));
        }
        if !self.admits(tenant) {
            let what = format!("{tenant} is not among issuer.tenants");
            return Err(claims.fault("tid", &what).about_admission());
        }
        Ok(issuer)
    }

    fn fill(&self, tenant: &str) -> Issuer {
        Issuer::new(format!("{}{tenant}{}", self.before, self.after))
    }

    fn tenant_in<'a>(&self, issuer: &'a str) -> Option<&'a str> {
        issuer.strip_prefix(&self.before)?.strip_suffix(&self.after)
    }

    fn admits(&self, tenant: &str) -> bool {
        self.admitted.as_ref().is_none_or(|list| list.iter().any(|it| it.eq_ignore_ascii_case(tenant)))
    }
}

impl AuthorizationServerMetadata {
    /// The issuer with this text, if it is this server, or one of its tenants.
    pub fn issuer_named(&self, text: &str) -> Option<Issuer> {
        match &self.tenants {
            Some(tenants) => tenants.issuer_named(text),
            None => (text == self.issuer.as_str()).then(|| self.issuer.clone()),
        }
    }
}

/// What a signing key says of the issuers that it is for, where it says anything: a pattern, or one of them.
pub(super) fn key_is_for(key_issuer: &str, issuer: &Issuer) -> bool {
    match key_issuer.split_once(PLACE) {
        Some((before, after)) => {
            let tenant = issuer.as_str().strip_prefix(before).and_then(|rest| rest.strip_suffix(after));
            tenant.is_some_and(is_uuid)
        }
        None => key_issuer == issuer.as_str(),
    }
}

/// Whether `text` is a UUID in its usual form (RFC 9562 section 4).
pub fn is_uuid(text: &str) -> bool {
    let mut parts = text.split('-');
    let lengths = [8, 4, 4, 4, 12];
    let fits = |length: usize, part: &str| part.len() == length && part.bytes().all(|byte| byte.is_ascii_hexdigit());
    lengths.iter().all(|length| parts.next().is_some_and(|part| fits(*length, part))) && parts.next().is_none()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const ADMITTED: &str = "11111111-1111-4111-8111-111111111111";
    const OTHER: &str = "22222222-2222-4222-8222-22222222222a";

    fn issuer(text: &str) -> Issuer {
        Issuer::new(text.to_owned())
    }

    fn read(named: &str, admitted: &[&str]) -> Option<Tenants> {
        let admitted: Vec<_> = admitted.iter().map(|&it| it.to_owned()).collect();
        Tenants::read(&issuer("https://as.test/common/v2.0"), "common", named, &admitted)
    }

    fn examine(tenants: &Tenants, tid: Tid, claims: &Value) -> Result<String, String> {
        let document = Document::read("ID token", claims.to_string().as_bytes()).expect("reads");
        let found = tenants.examine(&document, tid);
        found.map(|issuer| issuer.to_string()).map_err(|fault| fault.to_string())
    }

    #[test]
    fn only_the_place_of_the_tenant_may_differ() {
        assert!(read("https://as.test/{tenantid}/v2.0", &[]).is_some());
        assert!(read(&format!("https://as.test/{OTHER}/v2.0"), &[]).is_some());
        for named in [
            "https://as.test/{tenantid}/v2.0/",
            "https://as.test/{tenantid}",
            "https://as.test/{tenant}/v2.0",
            "https://as.test/{tenantid}/{tenantid}/v2.0",
            "https://as.test/contoso.example/v2.0",
            "https://as.test//v2.0",
            "https://evil.test/{tenantid}/v2.0",
            "http://as.test/{tenantid}/v2.0",
        ] {
            assert_eq!(read(named, &[]), None, "{named}");
        }
    }

    #[test]
    fn a_token_is_of_the_tenant_that_it_names_twice() {
        let all = read("https://as.test/{tenantid}/v2.0", &[]).expect("has tenants");
        let iss = format!("https://as.test/{OTHER}/v2.0");
        let good = json!({ "iss": iss, "tid": OTHER });
        assert_eq!(examine(&all, Tid::Required, &good).as_ref(), Ok(&iss));
        for (claims, fault) in [
            (json!({ "iss": iss }), "tid is absent"),
            (json!({ "iss": iss, "tid": ADMITTED }), "iss is not the issuer of the tenant that tid names"),
            (json!({ "iss": "https://as.test/x/v2.0", "tid": "x" }), "tid is not a UUID"),
            (json!({ "iss": "https://as.test/{tenantid}/v2.0", "tid": "{tenantid}" }), "tid is not a UUID"),
            (json!({ "iss": "https://as.test/common/v2.0", "tid": OTHER }), "iss is not the issuer"),
            (json!({ "iss": format!("https://as.test/{}/v2.0", OTHER.to_uppercase()), "tid": OTHER }), "iss is not"),
            (json!({ "tid": OTHER }), "iss is absent"),
            (json!({ "iss": iss, "tid": 7 }), "tid is not a string"),
        ] {
            let found = examine(&all, Tid::Required, &claims).expect_err("is refused");
            assert!(found.contains(fault), "{claims}: {found}");
        }
    }

    #[test]
    fn a_logout_token_may_leave_its_tenant_to_iss_alone() {
        let all = read("https://as.test/{tenantid}/v2.0", &[]).expect("has tenants");
        let iss = format!("https://as.test/{OTHER}/v2.0");
        assert_eq!(examine(&all, Tid::IfThere, &json!({ "iss": iss })).as_ref(), Ok(&iss));
        for claims in [
            json!({ "iss": "https://as.test/x/v2.0" }),
            json!({ "iss": format!("https://evil.test/{OTHER}/v2.0") }),
            json!({ "iss": iss, "tid": ADMITTED }),
        ] {
            assert!(examine(&all, Tid::IfThere, &claims).is_err(), "{claims}");
        }
    }

    #[test]
    fn only_the_listed_tenants_are_admitted() {
        let claims = |tid: &str| json!({ "iss": format!("https://as.test/{tid}/v2.0"), "tid": tid });
        let one = read("https://as.test/{tenantid}/v2.0", &[ADMITTED]).expect("has tenants");
        assert!(examine(&one, Tid::Required, &claims(ADMITTED)).is_ok());
        let refusal = examine(&one, Tid::Required, &claims(OTHER)).expect_err("is refused");
        assert_eq!(refusal, format!("ID token: tid {OTHER} is not among issuer.tenants"));
        assert!(examine(&one, Tid::IfThere, &json!({ "iss": format!("https://as.test/{OTHER}/v2.0") })).is_err());
        // Metadata that names one tenant means that one, whatever else is listed.
        for listed in [&[][..], &[ADMITTED, OTHER]] {
            let fixed = read(&format!("https://as.test/{ADMITTED}/v2.0"), listed).expect("has tenants");
            assert!(examine(&fixed, Tid::Required, &claims(ADMITTED)).is_ok());
            assert!(examine(&fixed, Tid::Required, &claims(OTHER)).is_err());
        }
        let nobody = read(&format!("https://as.test/{OTHER}/v2.0"), &[ADMITTED]).expect("has tenants");
        assert!(examine(&nobody, Tid::Required, &claims(OTHER)).is_err());
        assert!(nobody.admit_nobody() && !one.admit_nobody());
    }

    #[test]
    fn a_key_for_one_tenant_signs_for_no_other() {
        let of = |tenant: &str| issuer(&format!("https://as.test/{tenant}/v2.0"));
        assert!(key_is_for("https://as.test/{tenantid}/v2.0", &of(OTHER)));
        assert!(key_is_for(of(ADMITTED).as_str(), &of(ADMITTED)));
        assert!(!key_is_for(of(ADMITTED).as_str(), &of(OTHER)));
        assert!(!key_is_for("https://other.test/{tenantid}/v2.0", &of(OTHER)));
    }

    #[test]
    fn a_uuid_has_its_usual_form() {
        assert!(is_uuid(OTHER) && is_uuid(&OTHER.to_uppercase()));
        for text in [
            "",
            "1",
            OTHER.trim_start_matches("22"),
            &OTHER.replace('-', ""),
            &format!("{OTHER}-"),
            &OTHER.replace('2', "g"),
        ] {
            assert!(!is_uuid(text), "{text}");
        }
    }
}
