//! What a browser says of itself, told coarsely: enough for a person to recognise a device, too little to follow one.

use http::HeaderMap;
use http::header::USER_AGENT;
use serde::{Deserialize, Serialize};

/// A family of browsers and one of operating systems. All of it is hearsay: a browser says what it likes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// The family of the browser.
    pub browser: Browser,
    /// The family of the operating system.
    pub system: System,
}

/// Families of browsers. New ones go to the end: the place in the list is what is stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Browser {
    /// None of those below.
    #[default]
    Unknown,
    /// Mozilla's.
    Firefox,
    /// Google's, and what calls itself so.
    Chrome,
    /// Microsoft's.
    Edge,
    /// Apple's.
    Safari,
    /// Opera Software's.
    Opera,
    /// Samsung's.
    Samsung,
}

/// Families of operating systems. New ones go to the end: the place in the list is what is stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum System {
    /// None of those below.
    #[default]
    Unknown,
    /// Microsoft's.
    Windows,
    /// Apple's, on the desk. Tablets of Apple say that they are desktops.
    MacOs,
    /// Apple's, on phones and tablets.
    Ios,
    /// Google's, on phones and tablets.
    Android,
    /// Google's, on the desk.
    ChromeOs,
    /// Any other Linux.
    Linux,
}

/// More than this is not looked at, in bytes.
const MOST: usize = 1024;

/// The first mark that is found decides: most browsers also carry the marks of those that they descend from.
const BROWSERS: [(&str, Browser); 13] = [
    ("Edg/", Browser::Edge),
    ("EdgA/", Browser::Edge),
    ("EdgiOS/", Browser::Edge),
    ("OPR/", Browser::Opera),
    ("OPT/", Browser::Opera),
    ("SamsungBrowser/", Browser::Samsung),
    ("Firefox/", Browser::Firefox),
    ("FxiOS/", Browser::Firefox),
    ("CriOS/", Browser::Chrome),
    ("Chrome/", Browser::Chrome),
    ("Chromium/", Browser::Chrome),
    ("HeadlessChrome/", Browser::Chrome),
    ("Safari/", Browser::Safari),
];

const SYSTEMS: [(&str, System); 8] = [
    ("Windows", System::Windows),
    ("iPhone", System::Ios),
    ("iPad", System::Ios),
    ("iPod", System::Ios),
    ("Android", System::Android),
    ("CrOS", System::ChromeOs),
    ("Macintosh", System::MacOs),
    ("Linux", System::Linux),
];

impl Device {
    /// What `headers` say of their sender.
    pub fn of(headers: &HeaderMap) -> Self {
        let agent = headers.get(USER_AGENT).map(|agent| agent.as_bytes()).unwrap_or_default();
        let agent = String::from_utf8_lossy(agent.get(..MOST).unwrap_or(agent));
        Self { browser: first(&BROWSERS, &agent), system: first(&SYSTEMS, &agent) }
    }

    /// This one, or what is known instead where it knows nothing.
    #[must_use]
    pub fn or(self, known: Self) -> Self {
        let browser = if self.browser == Browser::Unknown { known.browser } else { self.browser };
        let system = if self.system == System::Unknown { known.system } else { self.system };
        Self { browser, system }
    }
}

fn first<T: Copy + Default>(marks: &[(&str, T)], agent: &str) -> T {
    marks.iter().find(|(mark, _)| agent.contains(mark)).map(|(_, family)| *family).unwrap_or_default()
}

impl Browser {
    /// The name that people know; none if the browser is not recognised.
    pub const fn name(self) -> Option<&'static str> {
        match self {
            Self::Unknown => None,
            Self::Firefox => Some("Firefox"),
            Self::Chrome => Some("Chrome"),
            Self::Edge => Some("Edge"),
            Self::Safari => Some("Safari"),
            Self::Opera => Some("Opera"),
            Self::Samsung => Some("Samsung Internet"),
        }
    }
}

impl System {
    /// The name that people know; none if the system is not recognised.
    pub const fn name(self) -> Option<&'static str> {
        match self {
            Self::Unknown => None,
            Self::Windows => Some("Windows"),
            Self::MacOs => Some("macOS"),
            Self::Ios => Some("iOS"),
            Self::Android => Some("Android"),
            Self::ChromeOs => Some("ChromeOS"),
            Self::Linux => Some("Linux"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(agent: &[u8]) -> (Option<&'static str>, Option<&'static str>) {
        let agent = http::HeaderValue::from_bytes(agent).unwrap();
        let Device { browser, system } = Device::of(&[(USER_AGENT, agent)].into_iter().collect());
        (browser.name(), system.name())
    }

    #[test]
    fn common_browsers_are_recognised() {
        let webkit = "AppleWebKit/537.36 (KHTML, like Gecko)";
        for (agent, browser, system) in [
            ("Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0".to_owned(), "Firefox", "Linux"),
            (format!("Mozilla/5.0 (Windows NT 10.0; Win64; x64) {webkit} Chrome/142.0.0.0 Safari/537.36"), "Chrome", "Windows"),
            (
                format!("Mozilla/5.0 (Windows NT 10.0; Win64; x64) {webkit} Chrome/142.0 Safari/537.36 Edg/142.0"),
                "Edge",
                "Windows",
            ),
            (
                "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/26.0 Safari/605.1.15".to_owned(),
                "Safari",
                "macOS",
            ),
            (
                "Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) FxiOS/140 Mobile/15E148 Safari/605.1.15".to_owned(),
                "Firefox",
                "iOS",
            ),
            (
                format!("Mozilla/5.0 (Linux; Android 16) {webkit} SamsungBrowser/28.0 Chrome/130.0 Mobile Safari/537.36"),
                "Samsung Internet",
                "Android",
            ),
            (format!("Mozilla/5.0 (X11; CrOS x86_64 14541.0.0) {webkit} Chrome/142.0 Safari/537.36 OPR/120"), "Opera", "ChromeOS"),
        ] {
            assert_eq!(of(agent.as_bytes()), (Some(browser), Some(system)), "{agent}");
        }
    }

    #[test]
    fn what_is_not_recognised_is_not_repeated() {
        assert_eq!(of(b"curl/8.14"), (None, None));
        assert_eq!(of(b"\xff\xfe<script>"), (None, None));
        assert_eq!(of(&[vec![b'x'; MOST], b"Firefox/1 Linux".to_vec()].concat()), (None, None));
        assert_eq!(Device::of(&HeaderMap::new()), Device::default());
    }

    #[test]
    fn a_request_without_the_field_makes_nothing_forgotten() {
        let known = Device { browser: Browser::Edge, system: System::Windows };
        assert_eq!(Device::default().or(known), known);
        assert_eq!(known.or(Device::default()), known);
    }
}
