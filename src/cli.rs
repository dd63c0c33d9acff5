//! The commands.

use std::ffi::OsString;
use std::fmt::{self, Write as _};
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::clock::{Clock, SystemClock};
use crate::config::{self, Config, LedgerSettings, Problems, RouteSettings, TargetSettings};
use crate::gateway::route::Access;
use crate::ledger::redis::Mode;
use crate::oauth::{AuthorizationServerMetadata, ClientAuthentication, ProviderChoice};
use crate::server::{self, LookError, StartError};
use crate::session::Placement;
use crate::session::cookies::SameSite;
use crate::session::keyring::KeyRing;
use crate::telemetry;

/// A reverse proxy that keeps OAuth tokens out of the browser.
#[derive(Debug, Parser)]
#[command(name = "vestibule", version, about)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve until told to end (SIGTERM, SIGINT).
    Serve(ConfigFile),
    /// Say what is wrong with a configuration, or what was understood. Touches no network but with --online.
    Check(Check),
    /// Make a key for `session.keys`, on standard output.
    Keygen,
}

#[derive(Debug, Args)]
struct ConfigFile {
    /// The configuration [default: $VESTIBULE_CONFIG, or else vestibule.toml]
    #[arg(long = "config", short = 'c', value_name = "FILE")]
    path: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct Check {
    #[command(flatten)]
    file: ConfigFile,
    /// Ask the issuer for its metadata too, and say what does not go well with it.
    #[arg(long)]
    online: bool,
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The configuration cannot be used.
    #[error("{} cannot be used:\n{problems}", path.display())]
    Configuration {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problems: Problems,
    },
    /// Logging cannot be set up.
    #[error("the log cannot be written")]
    Log(#[from] telemetry::AlreadySet),
    /// The server cannot start.
    #[error("the server cannot start")]
    Start(#[from] StartError),
    /// The issuer cannot be looked at.
    #[error(transparent)]
    Look(#[from] LookError),
    /// The result cannot be written.
    #[error("the result cannot be written")]
    Output(#[from] io::Error),
}

impl Failure {
    /// What the process ends with: 64 for what the configuration is to blame for (`EX_USAGE`), else 1.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Configuration { .. } => ExitCode::from(64),
            Self::Log(_) | Self::Start(_) | Self::Look(_) | Self::Output(_) => ExitCode::FAILURE,
        }
    }
}

impl Cli {
    /// Runs the command. Its result goes to `output`, what people should know besides to `hints`.
    ///
    /// # Errors
    /// [`Failure`] says why it failed.
    pub fn run(self, output: &mut dyn io::Write, hints: &mut dyn io::Write) -> Result<(), Failure> {
        match self.command {
            Command::Serve(file) => {
                let config = file.load()?;
                telemetry::init(&config.log)?;
                Ok(server::run(config)?)
            }
            Command::Check(Check { file, online }) => {
                let config = file.load()?;
                let (metadata, advice) = if online {
                    let (metadata, advice) = server::look(&config)?;
                    (Some(metadata), advice)
                } else {
                    (None, Vec::new())
                };
                write!(output, "{}", Summary(&config, metadata.as_deref()))?;
                for advice in advice {
                    writeln!(output, "warning: {advice}")?;
                }
                Ok(())
            }
            Command::Keygen => {
                writeln!(output, "{}", KeyRing::generate_text(&*server::random(), SystemClock::default().now()))?;
                let hint = "Keep it in a file that only Vestibule can read, and name that in session.keys.";
                Ok(writeln!(hints, "{hint}")?)
            }
        }
    }
}

impl ConfigFile {
    fn load(self) -> Result<Config, Failure> {
        let path = self.path.unwrap_or_else(|| {
            PathBuf::from(std::env::var_os("VESTIBULE_CONFIG").unwrap_or_else(|| OsString::from("vestibule.toml")))
        });
        Config::load(&path).map_err(|problems| Failure::Configuration { path, problems })
    }
}

/// What was understood of a configuration, for people.
struct Summary<'a>(&'a Config, Option<&'a AuthorizationServerMetadata>);

impl fmt::Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(config, metadata) = self;
        let method = match &config.client.authentication {
            ClientAuthentication::Basic(_) => "client_secret_basic",
            ClientAuthentication::Post(_) => "client_secret_post",
            ClientAuthentication::PrivateKeyJwt(_) => "private_key_jwt",
            ClientAuthentication::Certificate => "by its certificate",
            ClientAuthentication::None => "without proof of who it is",
        };
        writeln!(f, "issuer     {}", config.authority.issuer.as_str())?;
        provider(f, config, *metadata)?;
        let bound = if config.client.dpop { "; its tokens are bound to keys (DPoP)" } else { "" };
        writeln!(f, "client     {}, {method}{bound}", config.client.id.as_str())?;
        writeln!(f, "redirect   {}  (register this at the issuer)", config.client.redirect_uri)?;
        writeln!(f, "site       {}, listening on {}", config.public_url.origin().ascii_serialization(), config.listen)?;
        writeln!(f, "cookie     {}", cookie(config))?;
        let (idle, absolute) = (in_words(config.session.idle), in_words(config.session.absolute));
        let place = match config.cookies.placement {
            Placement::Cookie => "sealed in the cookie",
            Placement::Ledger => "sealed in the ledger",
        };
        writeln!(f, "sessions   {place}; over after {idle} without use, {absolute} after the login")?;
        writeln!(f, "ledger     {}", ledger(&config.ledger))?;
        if let Some(admin) = &config.admin {
            let token = if admin.token.is_some() { "with a token" } else { "from this machine, without a token" };
            let list = if admin.sessions { "sessions are listed" } else { "sessions are not listed" };
            writeln!(f, "admin      {}, {token}; {list}", admin.listen)?;
        }
        writeln!(f, "routes")?;
        let width = config.routes.iter().map(|route| route.path.len()).max().unwrap_or_default();
        for route in &config.routes {
            writeln!(f, "  {}", line(route, width))?;
        }
        for warning in &config.warnings {
            writeln!(f, "warning: {warning}")?;
        }
        Ok(())
    }
}

/// Which product the issuer is, how that is known, and what follows from it.
fn provider(
    f: &mut fmt::Formatter<'_>,
    config: &Config,
    metadata: Option<&AuthorizationServerMetadata>,
) -> fmt::Result {
    let authority = &config.authority;
    let known = metadata.map_or_else(|| authority.certain_provider(), |metadata| metadata.provider);
    let how = match (authority.provider, known, metadata) {
        (ProviderChoice::Named(_) | ProviderChoice::None, ..) => "as issuer.provider says",
        (ProviderChoice::Auto, _, Some(_)) => "by its metadata",
        (ProviderChoice::Auto, Some(_), None) => "by issuer.url",
        (ProviderChoice::Auto, None, None) => "by issuer.url; its metadata may tell",
    };
    let Some(provider) = known else { return writeln!(f, "provider   none that is known, {how}") };
    writeln!(f, "provider   {} ({}), {how}", provider.title, provider.name)?;
    for (key, value) in config::values(provider, &config.client, &config.logout) {
        writeln!(f, "           {key} = {value}, from its profile")?;
    }
    writeln!(f, "           of its refresh tokens {}", provider.grace)?;
    if !provider.has_logout {
        writeln!(
            f,
            "           it has no logout: after a sign-out its own session goes on, and the next login may ask nobody"
        )?;
    }
    Ok(())
}

fn ledger(settings: &LedgerSettings) -> String {
    match settings {
        LedgerSettings::Memory { max_bytes } => format!("in memory, {} MiB at most", max_bytes >> 20),
        LedgerSettings::File { folder, max_bytes } => {
            format!("in {}, {} MiB at most; for one process", folder.join("ledger.redb").display(), max_bytes >> 20)
        }
        LedgerSettings::Redis(redis) => {
            let nodes: Vec<_> = redis.nodes.iter().map(ToString::to_string).collect();
            let how = match &redis.mode {
                Mode::Single => "Redis".to_owned(),
                Mode::Sentinel { master, .. } => format!("Redis, the master {master:?} by the sentinels"),
                Mode::Cluster => "a Redis cluster with".to_owned(),
            };
            let tls = if redis.tls.is_some() { "by TLS" } else { "in clear text" };
            format!("{how} {}, {tls}", nodes.join(" "))
        }
    }
}

fn cookie(config: &Config) -> String {
    let secure = config.public_url.scheme() == "https";
    let same_site = match config.cookies.same_site {
        SameSite::Strict => "Strict",
        SameSite::Lax => "Lax",
        SameSite::None => "None",
    };
    let name = config.cookies.names.session();
    format!("{name}{}; HttpOnly; SameSite={same_site}", if secure { "; Secure" } else { "" })
}

fn line(route: &RouteSettings, width: usize) -> String {
    let access = match route.access {
        Access::Api => "api",
        Access::Page => "page",
        Access::Optional => "optional",
        Access::Public => "none",
    };
    let mut line = format!("{:width$}  {access:8}  ", route.path);
    let target = match &route.target {
        TargetSettings::Upstream(upstream) => upstream.url.as_str().to_owned(),
        TargetSettings::Files { folder, .. } => format!("files in {}", folder.display()),
    };
    line.push_str(&target);
    for (index, method) in route.methods.iter().enumerate() {
        let separator = if index == 0 { "  " } else { " " };
        // Writing to a String does not fail.
        write!(line, "{separator}{method}").ok();
    }
    line
}

fn in_words(span: Duration) -> String {
    match span.as_secs() {
        seconds if seconds % 3600 == 0 => format!("{} h", seconds / 3600),
        seconds if seconds % 60 == 0 => format!("{} min", seconds / 60),
        seconds => format!("{seconds} s"),
    }
}
