//! The host credential for the API server: three files that only root may read.

use std::{net::SocketAddr, path::Path};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use jiff::Timestamp;
use serde::Deserialize;

use crate::{
    node::{Privacy, paths, read},
    reason::{Explanation, Reason, quote},
};

/// A server, the certificates that it is verified against, and our token.
pub(crate) struct Credential {
    pub(crate) server: SocketAddr,
    /// DER
    pub(crate) ca: Vec<Vec<u8>>,
    pub(crate) token: String,
}

impl Credential {
    /// Reads the files of a directory; `None` where the credential was not installed.
    pub(crate) fn load(directory: &Path) -> Result<Option<Self>, Explanation> {
        let file = |name: &str| read(&directory.join(name), Privacy::Private);
        let (server, ca, token) = (file("server")?, file("ca.crt")?, file("token")?);
        if server.is_none() && ca.is_none() && token.is_none() {
            return Ok(None);
        }
        let needed = |text: Option<String>, name| text.ok_or_else(|| invalid(name, "is missing"));
        let server = address(&needed(server, "server")?)?;
        Self::of(server, &needed(ca, "ca.crt")?, &needed(token, "token")?).map(Some)
    }

    /// For a server, from PEM certificates and a token.
    pub(crate) fn of(server: SocketAddr, ca: &str, token: &str) -> Result<Self, Explanation> {
        Ok(Self {
            server,
            ca: certificates(ca)?,
            token: bearer(token)?,
        })
    }

    /// When the token expires or expired; `None` if it has no expiry.
    pub(crate) fn expiry(&self) -> Option<Timestamp> {
        Timestamp::from_second(self.claims()?.exp).ok()
    }

    /// When it was issued.
    pub(crate) fn issue_time(&self) -> Option<Timestamp> {
        Timestamp::from_second(self.claims()?.iat?).ok()
    }

    /// The Node that its pod runs on: its name and UID.
    pub(crate) fn node(&self) -> Option<(String, String)> {
        let node = self.claims()?.kubernetes?.node?;
        Some((node.name, node.uid))
    }

    fn claims(&self) -> Option<Claims> {
        let claims = BASE64_URL_SAFE_NO_PAD
            .decode(self.token.split('.').nth(1)?)
            .ok()?;
        serde_json::from_slice(&claims).ok()
    }
}

#[derive(Deserialize)]
struct Claims {
    exp: i64,
    iat: Option<i64>,
    #[serde(rename = "kubernetes.io")]
    kubernetes: Option<Bound>,
}

/// What a token is bound to.
#[derive(Deserialize)]
struct Bound {
    node: Option<Of>,
}

#[derive(Deserialize)]
struct Of {
    name: String,
    uid: String,
}

fn invalid(file: &str, why: &str) -> Explanation {
    Reason::NodeConfigInvalid
        .because(format!("{}/{file} {why}", paths::API))
        .remedy("reinstall the credential")
}

/// `https://<IP literal>:port`: a host name would load the host's resolver libraries.
fn address(text: &str) -> Result<SocketAddr, Explanation> {
    let address = text
        .trim()
        .strip_prefix("https://")
        .map(|rest| rest.strip_suffix('/').unwrap_or(rest));
    let parsed = address.and_then(|a| a.parse().ok());
    parsed.ok_or_else(|| {
        invalid(
            "server",
            &format!(
                "holds {}, not https://<IP address>:<port>",
                quote(text.trim())
            ),
        )
    })
}

fn certificates(text: &str) -> Result<Vec<Vec<u8>>, Explanation> {
    let all = pem::parse_many(text).map_err(|e| invalid("ca.crt", &format!("is not PEM: {e}")))?;
    let certificates: Vec<_> = all
        .into_iter()
        .filter(|p| p.tag() == "CERTIFICATE")
        .map(pem::Pem::into_contents)
        .collect();
    if certificates.is_empty() {
        Err(invalid("ca.crt", "holds no certificate"))
    } else {
        Ok(certificates)
    }
}

fn bearer(text: &str) -> Result<String, Explanation> {
    let token = text.trim();
    let sound = !token.is_empty() && token.bytes().all(|b| b.is_ascii_graphic());
    if sound {
        Ok(token.to_owned())
    } else {
        Err(invalid("token", "does not hold a token"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_https_url_with_an_ip_address_is_accepted() {
        assert_eq!(address("https://10.96.0.1:443\n").unwrap().port(), 443);
        assert_eq!(
            address("https://[fd00::1]:6443/").unwrap().to_string(),
            "[fd00::1]:6443"
        );
        for bad in [
            "http://10.96.0.1:80",
            "https://kubernetes.default:443",
            "https://10.96.0.1",
            "10.96.0.1:443",
            "https://10.96.0.1:443/x",
            "https://u@10.0.0.1:1",
            "",
        ] {
            assert_eq!(
                address(bad).unwrap_err().reason,
                Reason::NodeConfigInvalid,
                "{bad}"
            );
        }
    }

    #[test]
    fn the_expiry_of_a_token_is_read_from_it() {
        let token = format!(
            "x.{}.y",
            BASE64_URL_SAFE_NO_PAD.encode(r#"{"exp":1700000000,"iss":"i"}"#)
        );
        let credential = |token: &str| Credential {
            server: "1.2.3.4:5".parse().unwrap(),
            ca: vec![],
            token: token.into(),
        };
        assert_eq!(
            credential(&token).expiry().unwrap().to_string(),
            "2023-11-14T22:13:20Z"
        );
        assert_eq!(credential("opaque").expiry(), None);
        assert!(
            bearer("a b").is_err() && bearer("\n").is_err() && certificates("nothing").is_err()
        );
    }
}
