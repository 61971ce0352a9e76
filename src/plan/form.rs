use crate::words::words;

words! {
    /// What carries the rules.
    pub enum Form("form of rules") {
        /// One table of nf_tables.
        Nftables = "nftables",
        /// The legacy variant of iptables.
        IptablesLegacy = "iptables-legacy",
        /// The nf_tables variant of iptables.
        IptablesNft = "iptables-nft",
        /// iptables without a variant in its name.
        Iptables = "iptables",
    }
}

/// One of the iptables programs that a node may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are iptables'")]
pub enum Variant {
    Legacy,
    Nft,
    /// Without a variant in its name.
    Plain,
}

impl Form {
    /// The programs that carry it; `None` where there are none.
    pub const fn iptables(self) -> Option<Variant> {
        match self {
            Self::Nftables => None,
            Self::IptablesLegacy => Some(Variant::Legacy),
            Self::IptablesNft => Some(Variant::Nft),
            Self::Iptables => Some(Variant::Plain),
        }
    }
}

impl From<Variant> for Form {
    fn from(variant: Variant) -> Self {
        match variant {
            Variant::Legacy => Self::IptablesLegacy,
            Variant::Nft => Self::IptablesNft,
            Variant::Plain => Self::Iptables,
        }
    }
}
