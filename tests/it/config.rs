//! Configuration: the two files that we ship, and what people are told about the mistakes in theirs.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;
use toml::{Table, Value};
use vestibule::config::{Config, LedgerSettings, Problems, TargetSettings};
use vestibule::gateway::headers::TransportSecurity;
use vestibule::oauth::{Par, SecurityProfile};

const MINIMAL: &str = include_str!("../../conf/minimal.toml");
const REFERENCE: &str = include_str!("../../conf/vestibule.toml");
const SECRET: &str = "hunter2-canary";
/// A key as `vestibule keygen` makes them.
const KEY: &str = "vestibule-key.1.1700000000.Zr0xQ3vYk5m8pT1uJ7wB2eN6sH9dL4aGfCiRoVtXyKE";

/// What the shipped files point to: secrets and a folder of the app.
fn world() -> TempDir {
    let world = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(world.path().join(name), text).unwrap();
    write("client_secret", &format!("{SECRET}\n"));
    write("session.key", &format!("{KEY}\n"));
    let (key, other) = (rcgen::KeyPair::generate().unwrap(), rcgen::KeyPair::generate().unwrap());
    let certificate = rcgen::CertificateParams::new(["spa-bff".to_owned()]).unwrap().self_signed(&key).unwrap();
    write("client.pem", &certificate.pem());
    write("client.key", &key.serialize_pem());
    write("other.key", &other.serialize_pem());
    std::fs::create_dir(world.path().join("dist")).unwrap();
    world
}

fn load(text: &str, world: &Path) -> Result<Config, Problems> {
    let text = text.replace("/run/secrets/", "");
    Config::from_toml(&text, world, |name| match name {
        "CLIENT_SECRET" => Some(SECRET.to_owned()),
        "CLIENT_KEY" => std::fs::read_to_string(world.join("client.key")).ok(),
        _ => None,
    })
}

fn report(text: &str) -> String {
    let world = world();
    let report = load(text, world.path()).expect_err("something is wrong").to_string();
    for secret in [SECRET, KEY, "Zr0xQ3vYk5m8"] {
        assert!(!report.contains(secret), "{report}");
    }
    report.replace(&*world.path().to_string_lossy(), "/etc/vestibule")
}

/// The minimal configuration with lines put in behind a table's header, or at the top.
fn minimal_with(changes: &[(&str, &str)]) -> String {
    let mut text = MINIMAL.to_owned();
    for (header, lines) in changes {
        let at = if header.is_empty() { 0 } else { text.find(header).expect(header) + header.len() };
        text.insert_str(at, &format!("\n{lines}\n"));
    }
    text
}

#[test]
fn the_minimal_configuration_is_enough() {
    let world = world();
    let config = load(MINIMAL, world.path()).unwrap();
    assert_eq!(config.client.redirect_uri, "https://app.example.com/bff/callback");
    assert_eq!(config.authority.issuer.as_str(), "https://login.example.com/realms/acme");
    assert_eq!(config.routes.len(), 2);
    // Nothing in it is worth a word.
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
}

#[test]
fn the_reference_writes_every_default_as_it_is() {
    let world = world();
    let written = load(REFERENCE, world.path()).unwrap();
    // The same file with nothing but what has to be there: all else falls back to its default.
    let required: [(&str, &[&str]); 4] = [
        ("server", &["public_url"]),
        ("issuer", &["url", "client_id", "client_secret"]),
        ("session", &["keys"]),
        ("ledger", &["path"]),
    ];
    let mut bare: Table = toml::from_str(REFERENCE).unwrap();
    bare.retain(|name, _| name == "route" || required.iter().any(|(table, _)| *table == name));
    for (table, keys) in required {
        bare[table].as_table_mut().unwrap().retain(|key, _| keys.contains(&key));
    }
    for route in bare["route"].as_array_mut().unwrap() {
        route.as_table_mut().unwrap().retain(|key, _| ["path", "upstream", "files", "auth"].contains(&key));
    }
    let defaults = load(&toml::to_string(&bare).unwrap(), world.path()).unwrap();
    assert_eq!(format!("{written:#?}"), format!("{defaults:#?}"));
}

#[test]
fn the_reference_names_every_key_there_is_and_no_other() {
    let mut named = BTreeSet::new();
    let mut table = String::new();
    for line in REFERENCE.lines() {
        if let Some(header) = line.strip_prefix('[') {
            table = header.trim_matches(['[', ']']).to_owned();
        } else if let Some((key, _)) = line.strip_prefix("# ").unwrap_or(line).split_once(" = ")
            && key.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_'))
        {
            named.insert(if table.is_empty() { key.to_owned() } else { format!("{table}.{key}") });
        }
    }
    assert_eq!(named, Config::keys());
}

#[test]
fn every_key_that_there_is_has_a_wrong_value_that_is_reported_under_its_name() {
    // One pass over all keys: a fraction fits none of them.
    let mut tables = Table::new();
    for key in Config::keys() {
        match key.split_once('.') {
            Some((table, key)) => {
                let table = tables.entry(table).or_insert_with(|| Value::Table(Table::new()));
                table.as_table_mut().unwrap().insert(key.to_owned(), Value::Float(1.5));
            }
            None => drop(tables.insert(key, Value::Float(1.5))),
        }
    }
    let route = tables.remove("route").unwrap();
    tables.insert("route".to_owned(), Value::Array(vec![route]));
    let world = world();
    let problems = load(&toml::to_string(&tables).unwrap(), world.path()).unwrap_err();
    for key in Config::keys() {
        let key = key.replace("route.", "route[1].");
        let told = problems
            .iter()
            .filter(|it| it.key == key && it.found == "a number with a fraction cannot stand here")
            .count();
        assert_eq!(told, 1, "{key}:\n{problems}");
    }
}

#[test]
fn all_problems_come_at_once_in_the_order_of_the_file() {
    let text = r#"
        csrf = "off"

        [server]
        listen = "localhost:8080"
        public_url = "http://app.example.com"
        prefix = "/bff/"
        trusted_proxies = ["10.0.0.0/8", "proxy.internal"]
        drain = "half an hour"
        conections = 50

        [issuer]
        url = "http://login.example.com"
        client_id = 12
        client_secret = "hunter2-canary"
        scopes = ["openid profile"]
        extra_params = { state = "hunter2-canary" }

        [session]
        keys = [{ file = "session.key" }, { env = "hunter2-canary" }, { file = "missing.key" }]
        idle = "2h"
        absolute = "1h"
        same_site = "none"
        max_cookie_bytes = "1MiB"

        [ledger]
        backend = "postgres"
        path = "ledger"
        timeout = "1h"

        [cors]
        origins = ["*"]

        [[route]]
        path = "/api/../admin"
        upstream = "http://api.internal:9000"
        auth = "token"
        methods = ["GET", "TRACE"]

        [[route]]
        path = "/bff/user"
        auth = "none"

        [[route]]
        path = "/"
        files = "build"
        upstream = "http://localhost:5173"

        [log]
        level = "wran"
    "#;
    insta::assert_snapshot!(report(text), @r#"
    csrf: "off" is not known; write "fetch-metadata" or "header"
    server.listen: "localhost:8080" is not an address with a port; write numbers, such as "127.0.0.1:8080" or "[::]:8080"
    server.public_url: "http://app.example.com" is plain http, and not on this machine; write an https URL, or set insecure.plain_http_cookies
    server.prefix: "/bff/" ends with a slash; write it as "/bff": a name is needed, and no slash after it
    server.trusted_proxies: "proxy.internal" is neither an address nor a network; write for example "10.0.0.7" or "10.0.0.0/8"
    server.drain: "half an hour" is no such amount; write seconds, or a text such as "90s", "15m", "12h", from 0 to 3600
    server.conections: there is no such key; did you mean `connections`?
    issuer.url: "http://login.example.com" is plain http, and not on this machine; write an https URL, or set insecure.plain_http_issuer
    issuer.client_id: a whole number cannot stand here; write a text in quotes
    issuer.client_secret: the secret itself stands in the file; write { file = "…" } or { env = "…" }, or set insecure.inline_secrets
    issuer.scopes: "openid profile" is not a single scope; write each scope as an entry of its own
    issuer.extra_params: "state" is written by the login itself; take it out
    session.keys[2]: the environment variable (name not shown) is not set; set it, or correct its name
    session.keys[3]: "/etc/vestibule/missing.key" cannot be read (No such file or directory (os error 2)); correct the path, or let this process read the file
    session.idle: 7200 s is longer than session.absolute, 3600 s; lower it, or raise session.absolute
    session.same_site: "none" is not known; write "strict" or "lax"
    session.max_cookie_bytes: "1MiB" is out of range; write bytes, or a text such as "512KiB", "64MiB", from 1024 to 16384
    ledger.backend: "postgres" is not known; write "file" or "redis" or "memory"
    ledger.timeout: it says nothing to the back end "file"; take it out, or write ledger.backend = "redis"
    cors.origins: "*" is not an http or https URL; write for example "https://host.example.com"
    route["/api/../admin"].path: "/api/../admin" contains a dot segment; write it without: no request with such a path is let through
    route["/api/../admin"].upstream: "http://api.internal:9000" is plain http, and not on this machine; write an https URL, or set insecure.plain_http_upstreams
    route["/api/../admin"].auth: "token" is not known; write "api" or "page" or "optional" or "none"
    route["/api/../admin"].methods: "TRACE" is never forwarded; take it out
    route["/bff/user"]: it leads nowhere; write upstream = "http…" or files = "folder"
    route["/bff/user"].path: "/bff/user" belongs to Vestibule's own endpoints; choose another path, or another server.prefix
    route["/"].auth: is missing; write "api", "page", "optional" or "none"
    route["/"].files: there is both an upstream and files; take one out, or make two routes of it
    log.level: "wran" is neither a level nor a list of directives; write for example "info" or "info,vestibule::gateway=debug"
    "#);
}

#[test]
fn a_list_that_is_missing_or_empty_is_named_as_such() {
    let with_keys = |keys: &str| MINIMAL.replace("keys = [{ file = \"/run/secrets/session.key\" }]", keys);
    assert_eq!(
        report(&with_keys("keys = []")),
        "session.keys: the list is empty; write [{ file = \"…\" }], and make the file with `vestibule keygen`"
    );
    let of_another_kind = "cannot stand here; write a list, in square brackets";
    assert_eq!(
        report(&with_keys("keys = { file = \"session.key\" }")),
        format!("session.keys: a table {of_another_kind}")
    );
    assert_eq!(
        report(&minimal_with(&[("[issuer]", "scopes = \"openid profile\"")])),
        format!("issuer.scopes: a text {of_another_kind}")
    );
}

#[test]
fn an_unknown_key_is_refused_with_the_nearest_name() {
    let text = minimal_with(&[
        ("", "crsf = \"header\""),
        ("[server]", "csrf = \"header\"\npublicurl = \"https://app.example.com\"\ntls = \"on\""),
        ("[ledger]", "folder = \"/var/lib/vestibule\""),
        ("[[route]]", "auht = \"api\"\ncookie_name = \"a\""),
    ]);
    insta::assert_snapshot!(report(&format!("{text}\n[sesion]\nidle = 5\n")), @r#"
    crsf: there is no such key; did you mean `csrf`?
    server.csrf: there is no such key; write `csrf` at the top of the file, before the first table
    server.publicurl: there is no such key; did you mean `public_url`?
    server.tls: there is no such key; remove it; known here: connections, drain, hsts, http2, listen, max_body_bytes, prefix, public_url, trusted_proxies, workers
    ledger.folder: there is no such key; remove it; known here: backend, ca_file, cluster, max_bytes, password, path, prefix, sentinel, sentinel_password, sentinel_username, timeout, url, urls, username
    route["/api/"].auht: there is no such key; did you mean `auth`?
    route["/api/"].cookie_name: there is no such key; write `cookie_name` in [session]
    sesion: there is no such key; did you mean `session`?
    "#);
}

#[test]
fn what_a_logout_cannot_be_is_told() {
    // RIL-2-02, FCL-2-01
    let text = minimal_with(&[]);
    let logout = r#"
        [logout]
        after = "https://e.test/"
        style = "okta"
        method = "put"
        order = "never"
        revoke_after = "1h"
        clear_site_data = ["cache", "cookies", "*"]
        front_channel = "true"
    "#;
    insta::assert_snapshot!(report(&format!("{text}{logout}")), @r#"
    logout.after: "https://e.test/" does not stay on this site; write a path, such as "/goodbye"
    logout.style: "okta" is not known; write "auto" or "standard" or "cognito" or "auth0"
    logout.method: "put" is not known; write "get" or "post"
    logout.order: "never" is not known; write "after" or "before"
    logout.revoke_after: "1h" is out of range; write seconds, or a text such as "90s", "15m", "12h", from 1 to 600
    logout.clear_site_data: "cookies" is not known; write "cache" or "storage"
    logout.clear_site_data: "*" is not known; write "cache" or "storage"
    logout.front_channel: "true" is not known; write "off" or "on" or "sid-only"
    "#);
    let cognito = format!("{text}\n[logout]\nstyle = \"cognito\"\nmethod = \"post\"\n");
    assert_eq!(
        report(&cognito),
        "logout.method: \"post\" goes to no logout of the style \"cognito\"; leave it out, or write \"get\""
    );
}

#[test]
fn an_empty_file_is_told_what_it_lacks() {
    insta::assert_snapshot!(report(""), @r#"
    server.public_url: is missing; write the address that people type, such as "https://app.example.com"
    issuer.url: is missing; write the issuer's identifier, exactly as its metadata has it
    issuer.client_id: is missing; write the id that the issuer knows this client by
    issuer.client_secret: is missing; write { file = "…" } or { env = "…" }
    route: there is no [[route]]; write one, with a path, an upstream (or files) and auth
    session.keys: is missing; write [{ file = "…" }], and make the file with `vestibule keygen`
    ledger.path: is missing; write a folder that outlives a restart, such as "/var/lib/vestibule"
    "#);
}

#[test]
fn a_file_that_is_not_toml_is_told_where_without_its_text() {
    // BCP-4.9-01: the line that is broken may hold a secret.
    let text = format!("[issuer]\nclient_secret = \"{SECRET}\nurl = \"https://a.test\"\nkey key\n");
    insta::assert_snapshot!(report(&text), @r#"
    line 2: invalid basic string, expected `"`; correct it (the format is TOML, https://toml.io)
    line 4: key with no value, expected `=`; correct it (the format is TOML, https://toml.io)
    "#);
}

#[test]
fn no_secret_is_printed_with_the_configuration() {
    // BCP-4.9-01
    let world = world();
    for secret in ["{ file = \"client_secret\" }", "{ env = \"CLIENT_SECRET\" }", "\"hunter2-canary\""] {
        let text = MINIMAL.replace("{ file = \"/run/secrets/client_secret\" }", secret);
        let text = format!("{text}\n[insecure]\ninline_secrets = true\n");
        let config = load(&text, world.path()).unwrap();
        let printed = format!("{config:?} {config:#?}");
        assert!(!printed.contains(SECRET) && !printed.contains("Zr0xQ3vYk5m8"), "{printed}");
    }
}

#[test]
fn secrets_are_where_the_file_says_and_nowhere_else() {
    for (written, told) in [
        ("\"hunter2-canary\"", "the secret itself stands in the file"),
        ("{ file = \"nowhere\" }", "cannot be read"),
        ("{ env = \"NOT_SET\" }", "NOT_SET is not set"),
        ("{ file = \"client_secret\", env = \"CLIENT_SECRET\" }", "has no one place"),
        ("{ value = \"hunter2-canary\" }", "cannot stand here"),
        ("{}", "has no one place"),
        ("[\"hunter2-canary\"]", "cannot stand here"),
    ] {
        let text = MINIMAL.replace("{ file = \"/run/secrets/client_secret\" }", written);
        let report = report(&text);
        assert!(report.starts_with("issuer.client_secret: ") && report.contains(told), "{written}: {report}");
        assert_eq!(report.lines().count(), 1, "{report}");
    }
}

#[test]
fn each_insecure_switch_allows_one_thing_and_is_warned_of() {
    // BCP-4.13-02, O21-1.5-01
    let cases = [
        ("plain_http_cookies", "https://app.example.com", "http://app.example.com"),
        ("plain_http_issuer", "https://login.example.com", "http://login.example.com"),
        ("plain_http_upstreams", "http://127.0.0.1:9000", "http://api.internal:9000"),
        ("inline_secrets", "{ file = \"/run/secrets/client_secret\" }", "\"hunter2-canary\""),
    ];
    let world = world();
    for (switch, safe, weak) in cases {
        let text = MINIMAL.replace(safe, weak);
        let refused = report(&text);
        assert_eq!(refused.lines().count(), 1, "{refused}");
        assert!(refused.contains(&format!("insecure.{switch}")), "{refused}");
        for (other, ..) in cases {
            let config = load(&format!("{text}\n[insecure]\n{other} = true\n"), world.path());
            assert_eq!(config.is_ok(), other == switch, "{other}");
            if let Ok(config) = config {
                assert!(config.warnings[0].starts_with(&format!("insecure.{switch} is on: ")), "{:?}", config.warnings);
            }
        }
    }
}

#[test]
fn each_mistake_is_told_by_itself() {
    let cases = [
        ("[server]", "prefix = \"/\"", "server.prefix", "ends with a slash"),
        ("[server]", "prefix = \"bff\"", "server.prefix", "does not begin with a slash"),
        ("[server]", "prefix = \"/%62ff\"", "server.prefix", "write \"/bff\""),
        ("[server]", "workers = 0", "server.workers", "0 is out of range"),
        ("[server]", "max_body_bytes = 0", "server.max_body_bytes", "0 is out of range"),
        ("[server]", "drain = 99999999999999999999", "line 4", "the number is out of range"),
        ("[server]", "drain = -1", "server.drain", "-1 is no such amount"),
        ("[issuer]", "client_auth = \"jwt\"", "issuer.client_auth", "write \"basic\" or \"post\""),
        ("[issuer]", "client_auth = \"none\"", "issuer.client_secret", "not used with client_auth = \"none\""),
        ("[issuer]", "client_keys = []", "issuer.client_keys", "the list is empty"),
        ("[issuer]", "client_keys = [{ file = \"nowhere\" }]", "issuer.client_keys[1]", "cannot be read"),
        (
            "[issuer]",
            "client_keys = [{ file = \"client_secret\" }]",
            "issuer.client_keys[1]",
            "private key in PEM form",
        ),
        ("[issuer]", "client_keys = [{ file = \"client.pem\" }]", "issuer.client_keys[1]", "private key in PEM form"),
        (
            "[issuer]",
            "client_keys = [{ file = \"client.key\" }, { env = \"CLIENT_KEY\" }]",
            "issuer.client_keys[2]",
            "the same key",
        ),
        ("[issuer]", "assertion_audience = \"issuer\"", "issuer.assertion_audience", "nothing is asserted"),
        ("[issuer]", "assertion_typ = \"JWT\"", "issuer.assertion_typ", "nothing is asserted"),
        ("[issuer]", "mtls = { certificate = \"client.pem\" }", "issuer.mtls", "or its key is missing"),
        (
            "[issuer]",
            "mtls = { certificate = \"nowhere\", key = { file = \"client.key\" } }",
            "issuer.mtls",
            "cannot be read",
        ),
        (
            "[issuer]",
            "mtls = { certificate = \"client.key\", key = { file = \"client.key\" } }",
            "issuer.mtls",
            "holds no certificate",
        ),
        (
            "[issuer]",
            "mtls = { certificate = \"client.pem\", key = { file = \"client.pem\" } }",
            "issuer.mtls",
            "holds no private key",
        ),
        (
            "[issuer]",
            "mtls = { certificate = \"client.pem\", key = { file = \"other.key\" } }",
            "issuer.mtls",
            "is not the key of the certificate",
        ),
        ("[issuer]", "security_profile = \"fapi1\"", "issuer.security_profile", "write \"none\" or \"fapi2\""),
        ("[issuer]", "par = \"yes\"", "issuer.par", "write \"auto\" or \"always\" or \"never\""),
        ("[issuer]", "jar = true", "issuer.jar", "list a key in issuer.client_keys"),
        ("[issuer]", "resource = [\"/api\"]", "issuer.resource", "is not an absolute URI"),
        ("[issuer]", "resource = [\"https://api.test/#a\"]", "issuer.resource", "has a fragment"),
        ("[issuer]", "audience = \"\"", "issuer.audience", "is no audience"),
        ("[issuer]", "claims_request = \"[]\"", "issuer.claims_request", "not a JSON object"),
        ("[issuer]", "response_mode = \"fragment\"", "issuer.response_mode", "write \"query\" or \"form_post\""),
        ("[issuer]", "clock_skew = \"10m\"", "issuer.clock_skew", "from 0 to 300"),
        ("[issuer]", "scopes = [\"profile\"]", "issuer.scopes", "\"openid\" is not among them"),
        ("[issuer]", "protocol = \"saml\"", "issuer.protocol", "write \"openid\" or \"oauth\""),
        ("[issuer]", "protocol = \"oauth\"\nuserinfo = true", "issuer.userinfo", "nobody says who somebody is"),
        ("[issuer]", "protocol = \"oauth\"\nscopes = [\"openid\"]", "issuer.scopes", "\"openid\" is among them"),
        ("[issuer]", "extra_params = { audience = \"\" }", "issuer.extra_params", "no name or no value"),
        ("[issuer]", "extra_params = { max_age = \"5\" }", "issuer.extra_params", "is written by the login itself"),
        ("[issuer]", "ca_file = \"nowhere.pem\"", "issuer.ca_file", "cannot be read"),
        ("[issuer]", "ca_file = \"client_secret\"", "issuer.ca_file", "holds no certificate"),
        ("[session]", "cookie_name = \"a b\"", "session.cookie_name", "choose another name"),
        ("[session]", "idle = 60", "session.idle", "from 120 to"),
        ("[session]", "idle = \"13h\"", "session.idle", "longer than session.absolute"),
        ("[session]", "absolute = \"401d\"", "session.absolute", "out of range"),
        ("[refresh]", "wait = \"2m\"", "refresh.wait", "from 1 to 60"),
        ("[ledger]", "max_bytes = 5", "ledger.max_bytes", "5 is out of range"),
        ("[ledger]", "url = \"rediss://redis.test\"", "ledger.url", "says nothing to the back end \"file\""),
        ("[logout]", "after = \"https://evil.test/\"", "logout.after", "does not stay on this site"),
        ("[logout]", "after = \"//evil.test/\"", "logout.after", "does not stay on this site"),
        ("[cors]", "origins = [\"https://other.test/\"]", "cors.origins", "write \"https://other.test\""),
        ("[[route]]", "files_max_bytes = 5", "route[\"/api/\"].files_max_bytes", "for a route with files"),
        ("[[route]]", "methods = []", "route[\"/api/\"].methods", "the list is empty"),
        ("[[route]]", "methods = [\"get\"]", "route[\"/api/\"].methods", "in capitals"),
        ("[[route]]", "mtls = \"client\"", "route[\"/api/\"].mtls", "write \"issuer\" or { certificate"),
        ("[[route]]", "mtls = \"issuer\"", "route[\"/api/\"].mtls", "name one in issuer.mtls first"),
        ("[[route]]", "mtls = { certificate = \"client.pem\" }", "route[\"/api/\"].mtls", "or its key is missing"),
        (
            "[[route]]",
            "mtls = { certificate = \"client.pem\", key = { file = \"other.key\" } }",
            "route[\"/api/\"].mtls",
            "is not the key of the certificate",
        ),
        (
            "[[route]]",
            "mtls = { certificate = \"client.pem\", key = { file = \"client.key\" } }",
            "route[\"/api/\"].mtls",
            "the upstream is plain http",
        ),
        ("[[route]]", "ca_file = \"client.pem\"", "route[\"/api/\"].ca_file", "the upstream is plain http"),
        ("[[route]]", "ca_file = \"client.key\"", "route[\"/api/\"].ca_file", "holds no certificate that can be read"),
        ("[[route]]", "ca_file = \"nowhere.pem\"", "route[\"/api/\"].ca_file", "cannot be read"),
        ("[[route]]", "read_timeout = 0", "route[\"/api/\"].read_timeout", "0 is out of range"),
        ("[[route]]", "token = { resource = \"orders\" }", "route[\"/api/\"].token.resource", "not an absolute URI"),
        ("[[route]]", "token = { audience = \"\" }", "route[\"/api/\"].token.audience", "is no audience"),
        ("[[route]]", "token = { scopes = [\"a b\"] }", "route[\"/api/\"].token.scopes", "is not a single scope"),
        ("[[route]]", "token = { send = false, exchange = true }", "route[\"/api/\"].token.send", "take out send"),
        ("[[route]]", "token = { scope = \"a\" }", "route[\"/api/\"].token", "cannot stand here"),
        ("# files", "token = {}", "route[\"/\"].token", "for a route with an upstream"),
        ("[[route]]", "token_scheme = \"DPoP\"", "route[\"/api/\"].token_scheme", "issuer.dpop = true"),
        ("[[route]]", "dpop_url = \"https://api.test\"", "route[\"/api/\"].dpop_url", "no token that is bound"),
        ("[issuer]", "extra_params = { dpop_jkt = \"x\" }", "issuer.extra_params", "is written by the login itself"),
        ("# files", "dpop_url = \"https://api.test\"", "route[\"/\"].dpop_url", "for a route with an upstream"),
        ("# files", "strip_prefix = false", "route[\"/\"].strip_prefix", "for a route with an upstream"),
        (
            "# files",
            "mtls = { certificate = \"client.pem\", key = { file = \"client.key\" } }",
            "route[\"/\"].mtls",
            "for a route with an upstream",
        ),
        ("# files", "ca_file = \"client.pem\"", "route[\"/\"].ca_file", "for a route with an upstream"),
        ("[server]", "hsts = \"includeSubDomains\"", "server.hsts", "or false to say nothing"),
        ("# files", "http2 = true", "route[\"/\"].http2", "for a route with an upstream"),
        ("# files", "methods = [\"GET\", \"POST\"]", "route[\"/\"].methods", "POST means nothing to files"),
    ];
    for (table, line, key, told) in cases {
        let mut text = MINIMAL.replacen("path = \"/\"\n", "path = \"/\"\n# files\n", 1);
        if text.contains(table) {
            text = text.replacen(table, &format!("{table}\n{line}"), 1);
        } else {
            text = format!("{text}\n{table}\n{line}\n");
        }
        let report = report(&text);
        assert!(report.starts_with(&format!("{key}: ")) && report.contains(told), "{line}: {report}");
        assert_eq!(report.lines().count(), 1, "{report}");
    }
}

#[test]
fn how_bound_tokens_are_shown_is_for_routes_that_get_some() {
    // DPOP-4.2-03, DPOP-7.2-01
    let world = world();
    let with = |route: &str| minimal_with(&[("[issuer]", "dpop = true"), ("[[route]]", route)]);
    let config = load(&with("token_scheme = \"Bearer\""), world.path()).unwrap();
    assert!(config.client.dpop);
    let shown = |config: &Config| match &config.routes[0].target {
        TargetSettings::Upstream(upstream) => {
            (upstream.bearer, upstream.external_url.as_ref().map(|url| url.as_str().to_owned()))
        }
        TargetSettings::Files { .. } => panic!("is an upstream"),
    };
    assert_eq!(shown(&config), (true, None));
    let config = load(&with("dpop_url = \"https://api.test/v1\""), world.path()).unwrap();
    assert_eq!(shown(&config), (false, Some("https://api.test/v1".to_owned())));
    for (route, told) in [
        ("token_scheme = \"bearer\"", "route[\"/api/\"].token_scheme: "),
        ("token_scheme = \"Bearer\"\ndpop_url = \"https://api.test\"", "a bearer token needs no proof"),
        ("dpop_url = \"api.test\"", "route[\"/api/\"].dpop_url: \"api.test\" is not an http or https URL"),
        ("dpop_url = \"https://api.test/?a=1\"", "has a query or a fragment"),
    ] {
        let report = report(&with(route));
        assert!(report.contains(told) && report.lines().count() == 1, "{report}");
    }
}

/// The minimal configuration of a client without a secret.
fn without_secret(lines: &str) -> String {
    let secret = MINIMAL.lines().find(|line| line.starts_with("client_secret")).unwrap();
    MINIMAL.replace(secret, lines)
}

#[test]
fn each_way_to_authenticate_says_what_it_needs() {
    // CAJ-03, MTLS-2-01
    for (lines, told) in [
        ("client_auth = \"post\"", "issuer.client_secret: is missing; write { file = \"…\" } or { env = \"…\" }"),
        (
            "client_auth = \"private_key_jwt\"",
            "issuer.client_keys: is missing; write [{ file = \"…\" }], and make the file with \
             `openssl genpkey -algorithm ed25519`",
        ),
        (
            "client_auth = \"tls_client_auth\"",
            "issuer.mtls: is missing; write { certificate = \"…\", key = { file = \"…\" } }",
        ),
        (
            "client_auth = \"private_key_jwt\"\nclient_keys = [{ file = \"session.key\" }]",
            "issuer.client_keys[1]: it is no private key of a kind that is signed with here; name a private key in PEM \
             form: P-256 or Ed25519 in PKCS #8, or RSA of 2048 to 4096 bits",
        ),
        (
            "client_auth = \"tls_client_auth\"\nmtls = { certificate = \"client.pem\" }",
            "issuer.mtls: the certificate or its key is missing; write { certificate = \"…\", key = { file = \"…\" } }",
        ),
    ] {
        assert_eq!(report(&without_secret(lines)), told);
    }
    let world = world();
    let keys = "client_auth = \"private_key_jwt\"\nclient_keys = [{ file = \"client.key\" }, { file = \"other.key\" }]";
    let identity = "mtls = { certificate = \"client.pem\", key = { env = \"CLIENT_KEY\" } }";
    for (lines, warning) in [
        (keys.to_owned(), ""),
        (
            format!("{keys}\nassertion_audience = \"token_endpoint\""),
            "issuer.assertion_audience is \"token_endpoint\": ",
        ),
        (format!("client_auth = \"self_signed_tls_client_auth\"\n{identity}"), ""),
        (format!("{keys}\n{identity}\njar = true\nresponse_mode = \"form_post\""), ""),
        ("client_auth = \"none\"".to_owned(), "issuer.client_auth is \"none\": "),
    ] {
        let config =
            load(&without_secret(&lines), world.path()).unwrap_or_else(|problems| panic!("{lines}: {problems}"));
        let warnings = config.warnings.join("\n");
        assert_eq!(
            (warnings.is_empty(), warnings.starts_with(warning)),
            (warning.is_empty(), true),
            "{lines}: {warnings}"
        );
        let printed = format!("{config:?}");
        let key = std::fs::read_to_string(world.path().join("client.key")).unwrap();
        assert!(!printed.contains(key.lines().nth(1).unwrap()), "{printed}");
    }
}

#[test]
fn a_posted_answer_needs_a_site_with_tls() {
    // FP-01
    let text = MINIMAL.replace("https://app.example.com", "http://localhost:8080").replace("0.0.0.0", "127.0.0.1");
    let text = text.replacen("[issuer]", "[issuer]\nresponse_mode = \"form_post\"", 1);
    assert_eq!(
        report(&text),
        "issuer.response_mode: a form from another site brings no cookie along over plain http; write \"query\", or an \
         https address in server.public_url"
    );
}

#[test]
fn what_is_said_about_https_is_said_for_this_host_alone_and_not_to_developers() {
    // HSTS-01, HSTS-02, FAPI-5.2.3-01
    let world = world();
    let said = |url: &str, hsts: &str| {
        let text = MINIMAL.replace("https://app.example.com", url);
        let text = text.replacen("[server]", &format!("[server]\n{hsts}"), 1);
        match load(&text, world.path()).unwrap_or_else(|problems| panic!("{problems}")).transport {
            TransportSecurity::Said(policy) => policy.to_str().unwrap().to_owned(),
            other @ (TransportSecurity::Left | TransportSecurity::Never) => format!("{other:?}"),
        }
    };
    assert_eq!(said("https://app.example.com", ""), "max-age=31536000");
    assert_eq!(said("https://app.example.com", "hsts = false"), "Left");
    assert_eq!(
        said("https://app.example.com", "hsts = \"max-age=1; includeSubDomains\""),
        "max-age=1; includeSubDomains"
    );
    assert_eq!(said("https://localhost:8443", ""), "Left");
    assert_eq!(said("https://localhost:8443", "hsts = true"), "max-age=31536000");
    assert_eq!(said("http://localhost:8080", ""), "Never");
    assert_eq!(said("http://localhost:8080", "hsts = false"), "Never");
    let text = MINIMAL.replace("https://app.example.com", "http://localhost:8080");
    let report = report(&text.replacen("[server]", "[server]\nhsts = true", 1));
    let told = "server.hsts: server.public_url is http, where it may not be said; take it out, or write the https address there";
    assert_eq!(report, told);
}

#[test]
fn a_route_shows_what_the_issuer_is_shown_or_a_certificate_of_its_own() {
    // MTLS-3-01
    let world = world();
    let own = "{ certificate = \"client.pem\", key = { file = \"client.key\" } }";
    let identity = |shown: &str| {
        let text = MINIMAL.replace("http://127.0.0.1:9000", "https://api.example.com");
        let text = text.replacen("[issuer]", &format!("[issuer]\nmtls = {own}"), 1);
        let text = text.replacen("[[route]]", &format!("[[route]]\n{shown}"), 1);
        let config = load(&text, world.path()).unwrap_or_else(|problems| panic!("{problems}"));
        match config.routes.into_iter().next().unwrap().target {
            TargetSettings::Upstream(upstream) => (upstream.identity.clone(), config.issuer_identity),
            TargetSettings::Files { .. } => panic!("the first route has an upstream"),
        }
    };
    let (shown, issuer) = identity("mtls = \"issuer\"");
    assert!(shown.is_some() && shown == issuer, "renewed together");
    let (shown, issuer) = identity(&format!("mtls = {own}"));
    assert!(shown.is_some() && shown != issuer);
    assert_eq!(identity("").0, None);
}

#[test]
fn routes_that_cannot_be_meant_are_refused() {
    for (from, to, told) in [
        ("http://127.0.0.1:9000", "https://app.example.com/api", "is this site itself"),
        ("http://127.0.0.1:9000", "https://ada:hunter2-canary@api.test", "user name or password"),
        ("files = \"dist\"", "files = \"client_secret\"", "is not a folder"),
        ("path = \"/\"", "path = \"/api/\"", "there is a route with this path before"),
        ("path = \"/\"", "path = \"/bff/x\"", "belongs to Vestibule's own endpoints"),
        ("path = \"/\"", "path = \"/bff\"", "belongs to Vestibule's own endpoints"),
    ] {
        let report = report(&MINIMAL.replacen(from, to, 1));
        assert!(report.contains(told) && report.lines().count() == 1, "{to}: {report}");
    }
    let world = world();
    assert!(load(&MINIMAL.replace("path = \"/\"", "path = \"/bffs\""), world.path()).is_ok());
}

#[test]
fn a_session_key_is_one_that_keygen_makes() {
    // CRY-08
    let world = world();
    let with = |content: &str| {
        std::fs::write(world.path().join("session.key"), content).unwrap();
        load(MINIMAL, world.path()).map(drop).map_err(|problems| problems.to_string())
    };
    assert_eq!(with(KEY), Ok(()));
    for wrong in ["hunter2-canary", "vestibule-key.1.1700000000.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "", "\n"]
    {
        let report = with(wrong).expect_err(wrong);
        assert!(report.starts_with("session.keys[1]: ") && !report.contains("hunter2"), "{report}");
    }
    let twice = MINIMAL.replace("[{ file = \"/run/secrets/session.key\" }]", "[{ env = \"K\" }, { env = \"K\" }]");
    let report = Config::from_toml(&twice.replace("/run/secrets/", ""), world.path(), |_| Some(KEY.to_owned()));
    let report = report.unwrap_err().to_string();
    assert!(report.starts_with("session.keys[2]: the same key is listed before; remove it"), "{report}");
}

#[test]
fn the_idle_limit_follows_an_absolute_one_that_is_shorter() {
    let world = world();
    let config = load(&minimal_with(&[("[session]", "absolute = \"30m\"")]), world.path()).unwrap();
    assert_eq!(config.session.idle, config.session.absolute);
}

#[test]
fn the_check_command_says_what_was_understood_or_what_is_wrong() {
    let world = world();
    let vestibule = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vestibule"));
        let ran = command.args(arguments).current_dir(world.path()).env_remove("VESTIBULE_CONFIG").output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (ran.status.code(), text(ran.stdout), text(ran.stderr))
    };
    let write = |text: &str| std::fs::write(world.path().join("vestibule.toml"), text).unwrap();

    let (code, output, problems) = vestibule(&["check"]);
    assert_eq!((code, &*output), (Some(64), ""));
    assert!(problems.contains("--config: \"vestibule.toml\" cannot be read"), "{problems}");

    write(&MINIMAL.replace("/run/secrets/", ""));
    let (code, output, problems) = vestibule(&["check"]);
    assert_eq!((code, &*problems), (Some(0), ""));
    insta::assert_snapshot!(output, @r#"
    issuer     https://login.example.com/realms/acme
    provider   none that is known, by issuer.url; its metadata may tell
    client     spa-bff, client_secret_basic
    redirect   https://app.example.com/bff/callback  (register this at the issuer)
    site       https://app.example.com, listening on 0.0.0.0:8080
    cookie     __Host-Http-vestibule; Secure; HttpOnly; SameSite=Strict
    sessions   sealed in the cookie; over after 1 h without use, 12 h after the login
    ledger     in /var/lib/vestibule/ledger.redb, 1024 MiB at most; for one process
    routes
      /api/  api       http://127.0.0.1:9000/  GET HEAD POST PUT PATCH DELETE OPTIONS
      /      none      files in dist  GET HEAD
    "#);

    // What keygen prints is a key, and nothing else.
    let (code, key, _) = vestibule(&["keygen"]);
    assert_eq!(code, Some(0));
    std::fs::write(world.path().join("session.key"), key).unwrap();
    assert_eq!(vestibule(&["check", "--config", "vestibule.toml"]).0, Some(0));

    write(&MINIMAL.replace("/run/secrets/", "").replace("auth = \"api\"", "auth = \"apy\""));
    for command in ["check", "serve"] {
        let (code, output, problems) = vestibule(&[command]);
        assert_eq!((code, &*output), (Some(64), ""));
        insta::allow_duplicates!(insta::assert_snapshot!(problems, @r#"
    vestibule: vestibule.toml cannot be used:
    route["/api/"].auth: "apy" is not known; write "api" or "page" or "optional" or "none"
    "#));
    }
}

#[test]
fn a_page_route_makes_cookies_lax_unless_the_file_says_otherwise() {
    let world = world();
    let same_site = |text: &str| format!("{:?}", load(text, world.path()).unwrap().cookies.same_site);
    let page = MINIMAL.replace("auth = \"none\"", "auth = \"page\"");
    assert_eq!(same_site(MINIMAL), "Strict");
    assert_eq!(same_site(&page), "Lax");
    assert_eq!(same_site(&page.replace("[session]", "[session]\nsame_site = \"strict\"")), "Strict");
}

#[test]
fn a_configuration_on_localhost_needs_no_switch() {
    let world = world();
    for url in ["http://localhost:8080", "http://127.0.0.1:8080", "http://[::1]:8080"] {
        let text = MINIMAL.replace("https://app.example.com", url);
        let text = text.replace("https://login.example.com/realms/acme", "http://localhost:9400");
        let config = load(&text, world.path()).unwrap();
        assert_eq!(config.client.redirect_uri, format!("{url}/bff/callback"));
    }
}

#[test]
fn the_issuer_is_kept_letter_by_letter() {
    // ISS-R-01
    let world = world();
    for issuer in ["https://login.example.com", "https://login.example.com/", "https://LOGIN.example.com:443/a/../b"] {
        let text = MINIMAL.replace("https://login.example.com/realms/acme", issuer);
        assert_eq!(load(&text, world.path()).unwrap().authority.issuer.as_str(), issuer);
    }
}

#[test]
fn a_file_that_cannot_be_read_is_a_problem_like_any_other() {
    let problems = Config::load(Path::new("/nowhere/vestibule.toml")).unwrap_err().to_string();
    assert!(problems.starts_with("--config: \"/nowhere/vestibule.toml\" cannot be read"), "{problems}");
}

/// What is said of a `[ledger]` in Redis.
fn redis(lines: &str) -> Result<String, String> {
    let text = MINIMAL.replace("path = \"/var/lib/vestibule\"", &format!("backend = \"redis\"\n{lines}"));
    let world = world();
    let config = load(&text, world.path()).map_err(|problems| problems.to_string().trim().to_owned())?;
    let LedgerSettings::Redis(settings) = config.ledger else { panic!("{:?}", config.ledger) };
    let nodes: Vec<_> = settings.nodes.iter().map(ToString::to_string).collect();
    Ok(format!("{} {:?} tls {} database {}", nodes.join(","), settings.mode, settings.tls.is_some(), settings.database))
}

#[test]
fn servers_of_a_ledger_are_named_by_urls() {
    let understood = [
        (r#"url = "redis://localhost""#, "localhost:6379 Single tls false database 0"),
        (r#"url = "redis://[::1]:7000/3""#, "[::1]:7000 Single tls false database 3"),
        (r#"url = "rediss://redis.test:6380""#, "redis.test:6380 Single tls true database 0"),
        (
            "urls = [\"rediss://a.test\", \"rediss://b.test\"]\ncluster = true",
            "a.test:6379,b.test:6379 Cluster tls true database 0",
        ),
    ];
    for (lines, expected) in understood {
        assert_eq!(redis(lines).as_deref(), Ok(expected), "{lines}");
    }
    let refused = [
        ("", "ledger.url: is missing"),
        (r#"url = "http://redis.test""#, "is not a redis or rediss URL"),
        (r#"url = "redis://""#, "is not a redis or rediss URL"),
        (
            r#"url = "redis://redis.test""#,
            "is in clear text, and not on this machine; write rediss://, or set insecure.plain_redis",
        ),
        (r#"url = "rediss://u:hunter2-canary@redis.test""#, "there is a user name or password in the URL"),
        (r#"url = "rediss://redis.test/app""#, "has a path"),
        (r#"urls = []"#, "ledger.urls: the list is empty"),
        (r#"urls = ["rediss://a.test", "rediss://b.test"]"#, "ledger.urls: there are several"),
        ("urls = [\"rediss://a.test\", \"redis://localhost\"]\ncluster = true", "ledger.urls: some differ in scheme"),
        ("url = \"rediss://a.test/1\"\ncluster = true", "ledger.url: database 1: a cluster has none but 0"),
        ("url = \"rediss://a.test\"\ncluster = true\nsentinel = \"m\"", "ledger.cluster: there is ledger.sentinel too"),
        ("url = \"rediss://a.test\"\npath = \"/tmp\"", "ledger.path: it says nothing to the back end \"redis\""),
        ("url = \"rediss://a.test\"\nmax_bytes = \"1GiB\"", "ledger.max_bytes: it says nothing to the back end"),
        ("url = \"redis://localhost\"\nca_file = \"session.key\"", "ledger.ca_file: "),
        (
            "url = \"rediss://a.test\"\npassword = { env = \"NOT_THERE\" }",
            "ledger.password: the environment variable NOT_THERE is not set",
        ),
        ("url = \"rediss://a.test\"\nprefix = \"a{b}\"", "ledger.prefix: "),
    ];
    for (lines, expected) in refused {
        let error = redis(lines).expect_err(lines);
        assert!(error.contains(expected) && !error.contains("canary"), "{lines}: {error}");
    }
}

#[test]
fn systemd_says_where_the_ledger_lies() {
    let world = world();
    let text = MINIMAL.replace("path = \"/var/lib/vestibule\"", "");
    let env = |name: &str| (name == "STATE_DIRECTORY").then(|| "/var/lib/private/vestibule".to_owned());
    let text = text.replace("/run/secrets", &world.path().to_string_lossy());
    let config = Config::from_toml(&text, world.path(), env).unwrap();
    let LedgerSettings::File { folder, .. } = config.ledger else { panic!("{:?}", config.ledger) };
    assert_eq!(folder, Path::new("/var/lib/private/vestibule"));
}

#[test]
fn a_listener_for_administrators_that_others_can_reach_needs_a_token() {
    let told = |lines: &str| {
        let world = world();
        std::fs::write(world.path().join("admin_token"), "ADMIN-token-0123456789-abcdefghij\n").unwrap();
        std::fs::write(world.path().join("short"), "hunter2-canary").unwrap();
        std::fs::write(world.path().join("spaced"), "hunter2-canary hunter2-canary hunter2").unwrap();
        match load(&format!("{MINIMAL}\n[admin]\n{lines}\n"), world.path()) {
            Ok(config) => {
                assert!(!format!("{config:?}").contains("ADMIN-token"));
                config.warnings.join("\n")
            }
            Err(problems) => {
                assert!(!problems.to_string().contains("hunter2"), "{problems}");
                problems.to_string()
            }
        }
    };
    for safe in [
        "listen = \"127.0.0.1:9901\"",
        "listen = \"[::1]:9901\"\nsessions = true",
        "listen = \"127.0.0.1:9901\"\ntoken = { file = \"admin_token\" }",
    ] {
        assert_eq!(told(safe), "", "{safe}");
    }
    let reachable = told("listen = \"0.0.0.0:9901\"\ntoken = { file = \"admin_token\" }");
    assert!(reachable.starts_with("admin.listen can be reached from other machines, in clear text"), "{reachable}");
    insta::assert_snapshot!(told("listen = \"0.0.0.0:9901\""), @r#"admin.listen: "0.0.0.0:9901" can be reached from other machines, and there is no admin.token; write admin.token = { file = "…" } or { env = "…" }, or listen on 127.0.0.1"#);
    insta::assert_snapshot!(told("listen = \"127.0.0.1:9901\"\ntoken = { file = \"short\" }"), @"admin.token: the token has 14 bytes, and 32 are the least; make one with: head -c 32 /dev/urandom | base64");
    insta::assert_snapshot!(told("listen = \"127.0.0.1:9901\"\ntoken = { file = \"spaced\" }"), @"admin.token: the token has characters that no bearer token has; make one with: head -c 32 /dev/urandom | base64");
    insta::assert_snapshot!(told("sessions = true\ntoken = { file = \"admin_token\" }"), @r#"
    admin.sessions: there is no admin.listen, so that nobody can ask; write admin.listen, such as "127.0.0.1:9901", or take it out
    admin.token: there is no admin.listen, so that nobody can ask; write admin.listen, such as "127.0.0.1:9901", or take it out
    "#);
    let inline = told("listen = \"127.0.0.1:9901\"\ntoken = \"ADMIN-token-0123456789-abcdefghij\"");
    assert!(inline.starts_with("admin.token: the secret itself stands in the file"), "{inline}");
}

/// The minimal configuration held to FAPI 2.0, by `credentials`.
fn fapi(credentials: &str) -> String {
    let secret = "client_secret = { file = \"/run/secrets/client_secret\" }";
    assert!(MINIMAL.contains(secret));
    MINIMAL.replace(secret, &format!("security_profile = \"fapi2\"\n{credentials}"))
}

const CERTIFICATE: &str = "mtls = { certificate = \"client.pem\", key = { file = \"client.key\" } }";

#[test]
fn one_switch_turns_on_what_fapi_demands() {
    // FAPI-5.3.3.1-01, FAPI-5.3.3.1-02, FAPI-5.3.3.2-02, FAPI-5.3.3.2-05
    let world = world();
    let credentials = [
        "client_auth = \"private_key_jwt\"\nclient_keys = [{ file = \"client.key\" }]",
        "client_auth = \"tls_client_auth\"",
        "client_auth = \"self_signed_tls_client_auth\"",
        // What it sets may be written all the same.
        "client_auth = \"tls_client_auth\"\npar = \"always\"\nrequire_iss = true",
    ];
    for way in credentials {
        let config = load(&fapi(&format!("{way}\n{CERTIFICATE}")), world.path()).unwrap_or_else(|it| panic!("{it}"));
        let requests = &config.client.requests;
        assert_eq!((requests.par, requests.require_iss, requests.profile), (Par::Always, true, SecurityProfile::Fapi2));
        assert!(config.client.mutual_tls && config.warnings.is_empty(), "{:?}", config.warnings);
    }
    let without = load(MINIMAL, world.path()).unwrap();
    assert_eq!(without.client.requests.profile, SecurityProfile::None);
}

#[test]
fn what_contradicts_fapi_is_refused_one_by_one_with_a_remedy() {
    // FAPI-5.3.3.1-01, FAPI-5.3.3.1-02, FAPI-5.3.3.1-05, FAPI-5.3.3.2-02, FAPI-5.3.3.2-05, FAPI-5.2.1-01
    let keys = "client_keys = [{ file = \"client.key\" }]\nassertion_audience = \"token_endpoint\"";
    let text = fapi(&format!("client_auth = \"private_key_jwt\"\n{keys}\npar = \"auto\"\nrequire_iss = false"));
    let switches = "[insecure]\nplain_http_cookies = true\nplain_http_issuer = true\nplain_http_upstreams = true\n";
    insta::assert_snapshot!(report(&format!("{text}\n{switches}")), @r#"
    issuer.dpop: access tokens are bound to no key of this client, but security_profile = "fapi2"; write true, or issuer.mtls = { certificate = "…", key = { file = "…" } }, or do without security_profile = "fapi2"
    issuer.assertion_audience: "token_endpoint", but security_profile = "fapi2"; write "issuer", or do without security_profile = "fapi2"
    issuer.par: "auto", but security_profile = "fapi2"; write "always", or do without security_profile = "fapi2"
    issuer.require_iss: false, but security_profile = "fapi2"; write true, or do without security_profile = "fapi2"
    insecure.plain_http_cookies: true, but security_profile = "fapi2"; take it out, or do without security_profile = "fapi2"
    insecure.plain_http_issuer: true, but security_profile = "fapi2"; take it out, or do without security_profile = "fapi2"
    insecure.plain_http_upstreams: true, but security_profile = "fapi2"; take it out, or do without security_profile = "fapi2"
    "#);
    let secret = "client_secret = { file = \"/run/secrets/client_secret\" }";
    for (way, found) in [
        ("", "it is \"basic\" where nothing is written"),
        ("client_auth = \"basic\"", "\"basic\""),
        ("client_auth = \"post\"", "\"post\""),
    ] {
        let expected = format!(
            "issuer.client_auth: {found}, but security_profile = \"fapi2\"; write \"private_key_jwt\" or \
             \"tls_client_auth\", or do without security_profile = \"fapi2\""
        );
        assert_eq!(report(&fapi(&format!("{secret}\n{way}\n{CERTIFICATE}"))), expected);
    }
    let nobody = report(&fapi(&format!("client_auth = \"none\"\n{CERTIFICATE}")));
    assert!(nobody.starts_with("issuer.client_auth: \"none\", but"), "{nobody}");
}

#[test]
fn keys_that_are_too_short_are_refused() {
    // FAPI-5.4.1-02
    let world = world();
    std::fs::write(world.path().join("short.pem"), include_str!("../../src/oauth/fixtures/rsa-1024.pem")).unwrap();
    let credentials =
        format!("client_auth = \"private_key_jwt\"\nclient_keys = [{{ file = \"short.pem\" }}]\n{CERTIFICATE}");
    let report = load(&fapi(&credentials), world.path()).expect_err("something is wrong").to_string();
    assert!(report.starts_with("issuer.client_keys[1]: ") && report.contains("between 2048 and 4096 bits"), "{report}");
    // Of a certificate that is shown too: its key cannot be used.
    let shown = "mtls = { certificate = \"client.pem\", key = { file = \"short.pem\" } }";
    let report = load(&fapi(&format!("client_auth = \"tls_client_auth\"\n{shown}")), world.path());
    let report = report.expect_err("something is wrong").to_string();
    assert!(report.starts_with("issuer.mtls: the key "), "{report}");
}
