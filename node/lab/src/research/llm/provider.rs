//! The providers of language models, with what is known of each, and the configuration of one.
//!
//! Pure. Never here: a request.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
    str::FromStr,
};

use serde::{Deserialize, Serialize};

use super::spending::Caps;

/// A provider of language models.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Provider {
    Anthropic,
    /// Any server that speaks OpenAI's API, at a base URL that the user names.
    Custom,
    Groq,
    /// A server on this machine that speaks OpenAI's API.
    Local,
    OpenAi,
    OpenRouter,
    Xai,
}

/// The API that a server speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// `POST /messages`
    Anthropic,
    /// `POST /chat/completions`
    OpenAi,
}

/// The facts about a provider.
struct Facts {
    provider: Provider,
    name: &'static str,
    /// With the version. Empty for [`Provider::Custom`].
    base_url: &'static str,
    /// The model that is used when none is configured. Empty for [`Provider::Custom`].
    model: &'static str,
    /// Whether its API asks for a key.
    key: bool,
}

/// Every provider. A changed default model is a change of this table alone.
const TABLE: [Facts; 7] = [
    Facts {
        provider: Provider::Anthropic,
        name: "anthropic",
        base_url: "https://api.anthropic.com/v1",
        model: "claude-sonnet-4-5",
        key: true,
    },
    Facts { provider: Provider::Custom, name: "custom", base_url: "", model: "", key: false },
    Facts {
        provider: Provider::Groq,
        name: "groq",
        base_url: "https://api.groq.com/openai/v1",
        model: "llama-3.3-70b-versatile",
        key: true,
    },
    Facts {
        provider: Provider::Local,
        name: "local",
        base_url: "http://127.0.0.1:11434/v1",
        model: "qwen2.5-coder",
        key: false,
    },
    Facts {
        provider: Provider::OpenAi,
        name: "openai",
        base_url: "https://api.openai.com/v1",
        model: "gpt-5",
        key: true,
    },
    Facts {
        provider: Provider::OpenRouter,
        name: "openrouter",
        base_url: "https://openrouter.ai/api/v1",
        model: "openrouter/auto",
        key: true,
    },
    Facts { provider: Provider::Xai, name: "xai", base_url: "https://api.x.ai/v1", model: "grok-4", key: true },
];

/// No such provider.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown provider {0:?}: one of anthropic, custom, groq, local, openai, openrouter, xai")]
pub struct UnknownProvider(pub String);

impl Provider {
    pub const ALL: [Self; 7] =
        [Self::Anthropic, Self::Custom, Self::Groq, Self::Local, Self::OpenAi, Self::OpenRouter, Self::Xai];

    fn fact<T>(self, of: impl Fn(&'static Facts) -> T) -> Option<T> {
        TABLE.iter().find(|facts| facts.provider == self).map(of)
    }

    pub fn name(self) -> &'static str {
        self.fact(|facts| facts.name).unwrap_or_default()
    }

    /// The base URL of the API, including the version. Empty when the user has to name it.
    pub fn base_url(self) -> &'static str {
        self.fact(|facts| facts.base_url).unwrap_or_default()
    }

    /// The model that is used when none is configured. Empty when the user has to name it.
    pub fn default_model(self) -> &'static str {
        self.fact(|facts| facts.model).unwrap_or_default()
    }

    /// Whether the provider's own server asks for a key.
    pub fn needs_key(self) -> bool {
        self.fact(|facts| facts.key).unwrap_or_default()
    }

    /// The API that the provider's servers speak.
    pub const fn dialect(self) -> Dialect {
        match self {
            Self::Anthropic => Dialect::Anthropic,
            _ => Dialect::OpenAi,
        }
    }
}

impl FromStr for Provider {
    type Err = UnknownProvider;

    fn from_str(text: &str) -> Result<Self, UnknownProvider> {
        Self::ALL.into_iter().find(|p| p.name() == text).ok_or_else(|| UnknownProvider(text.to_owned()))
    }
}

/// Why a text is no API key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyFault {
    #[error("the API key is empty")]
    Empty,
    /// A line break in the middle, a blank, an escape sequence, or a letter outside ASCII.
    #[error(
        "the API key contains a character that no key has: a blank, a line break or another invisible or foreign one"
    )]
    Character,
}

/// An API key without the blanks and line breaks around it, which come with copies from pages and files.
///
/// # Errors
/// [`KeyFault`]. No message contains the key.
pub fn clean_key(text: &str) -> Result<String, KeyFault> {
    let around = |c: char| c.is_whitespace() || matches!(c, '\u{feff}' | '\u{200b}');
    let key = text.trim_matches(around);
    match () {
        () if key.is_empty() => Err(KeyFault::Empty),
        () if key.bytes().all(|byte| byte.is_ascii_graphic()) => Ok(key.to_owned()),
        () => Err(KeyFault::Character),
    }
}

/// The language model that proposes, and how to reach it.
#[derive(Clone, PartialEq)]
pub struct ProviderConfig {
    pub name: Provider,
    /// The base URL of the API, including the version, without a slash at the end.
    pub base_url: String,
    pub model: String,
    /// Secret. Empty when the server needs no key.
    pub key: String,
    /// Most tokens of an answer. None: the server's own limit, or a default where the API requires a number.
    pub max_tokens: Option<u32>,
    /// None: the server's default.
    pub temperature: Option<f64>,
    /// Tokens that question and answer may have together. None: not known.
    pub context: Option<u64>,
    /// What a day may cost.
    pub caps: Caps,
    /// Where the cost of the day is kept. None: it is forgotten with the process.
    pub ledger: Option<PathBuf>,
}

impl ProviderConfig {
    /// The provider with its own base URL and default model.
    pub fn new(name: Provider, key: String) -> Self {
        Self {
            name,
            base_url: name.base_url().to_owned(),
            model: name.default_model().to_owned(),
            key,
            max_tokens: None,
            temperature: None,
            context: None,
            caps: Caps::default(),
            ledger: None,
        }
    }
}

impl fmt::Debug for ProviderConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {} ({})", self.model, self.base_url, self.name.name())
    }
}

/// Endings of host names that only a local network resolves.
const LOCAL_DOMAINS: [&str; 6] = [".localhost", ".local", ".lan", ".internal", ".home.arpa", ".localdomain"];

/// Whether a URL leads to this machine or to its own network. A proxy, which the environment names for the way
/// outside, cannot reach such a server or would see what is none of its business.
pub fn is_near(url: &reqwest::Url) -> bool {
    let Some(host) = url.host_str() else { return false };
    let host = host.trim_start_matches('[').trim_end_matches(']').trim_end_matches('.').to_ascii_lowercase();
    match host.parse::<IpAddr>() {
        Ok(IpAddr::V4(address)) => is_near_v4(address),
        Ok(IpAddr::V6(address)) => match address.to_ipv4_mapped() {
            Some(address) => is_near_v4(address),
            None => {
                address.is_loopback()
                    || address.is_unspecified()
                    || address.is_unique_local()
                    || address.is_unicast_link_local()
            }
        },
        // A name without a dot is one of the local network, too.
        Err(_) => !host.contains('.') || LOCAL_DOMAINS.iter().any(|domain| host.ends_with(domain)),
    }
}

fn is_near_v4(address: Ipv4Addr) -> bool {
    // 100.64.0.0/10 is shared by carriers and private overlays (RFC 6598).
    let [a, b, ..] = address.octets();
    let shared = a == 100 && (64..128).contains(&b);
    address.is_loopback() || address.is_private() || address.is_link_local() || address.is_unspecified() || shared
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn providers_have_names_that_read_back() {
        for provider in Provider::ALL {
            assert_eq!(provider.name().parse(), Ok(provider));
            assert!(!provider.base_url().ends_with('/'));
            assert_eq!(provider.base_url().is_empty(), provider == Provider::Custom);
            assert_eq!(provider.default_model().is_empty(), provider == Provider::Custom);
        }
        assert_eq!(TABLE.len(), Provider::ALL.len());
        let names = "skynet".parse::<Provider>().unwrap_err().to_string();
        assert!(Provider::ALL.iter().all(|provider| names.contains(provider.name())), "{names}");
    }

    #[test]
    fn key_is_trimmed_and_refused_when_it_cannot_be_one() {
        for text in ["sk-x", " sk-x ", "sk-x\r\n", "\u{feff}sk-x\u{200b}", "\tsk-x\u{a0}"] {
            assert_eq!(clean_key(text), Ok("sk-x".to_owned()), "{text:?}");
        }
        for text in ["", " ", "\r\n", "\u{feff}"] {
            assert_eq!(clean_key(text), Err(KeyFault::Empty), "{text:?}");
        }
        for text in ["sk\r\n-x", "sk x", "sk\u{1b}[0m-x", "sk-\u{e4}", "sk\0x", "a\u{200b}b"] {
            assert_eq!(clean_key(text), Err(KeyFault::Character), "{text:?}");
        }
    }

    #[test]
    fn servers_of_this_machine_and_network_are_near() {
        let near = |url: &str| is_near(&reqwest::Url::parse(url).unwrap());
        for url in [
            "http://127.0.0.1:11434/v1",
            "http://localhost/v1",
            "http://[::1]:8000/v1",
            "http://0.0.0.0:8000",
            "http://10.1.2.3/v1",
            "http://172.16.0.1",
            "http://192.168.1.5:1234/v1",
            "http://169.254.1.1",
            "http://100.100.1.1",
            "http://[fd00::1]/v1",
            "http://[fe80::1]/v1",
            "http://[::ffff:10.0.0.1]/v1",
            "http://gpu-box:8000/v1",
            "http://host.docker.internal:11434/v1",
            "http://nas.local./v1",
        ] {
            assert!(near(url), "{url}");
        }
        for url in [
            "https://api.openai.com/v1",
            "http://172.32.0.1",
            "http://100.128.0.1",
            "http://11.0.0.1",
            "http://[2001:db8::1]/v1",
            "http://local.example.org",
        ] {
            assert!(!near(url), "{url}");
        }
    }
}
