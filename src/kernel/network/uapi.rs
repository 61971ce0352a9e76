//! Numbers of linux/rtnetlink.h and its neighbors.

/// `RTM_*`
pub(in crate::kernel) mod kind {
    pub(in crate::kernel) const NEW_LINK: u16 = 16;
    pub(in crate::kernel) const GET_LINK: u16 = 18;
    pub(in crate::kernel) const NEW_ADDRESS: u16 = 20;
    pub(in crate::kernel) const DELETE_ADDRESS: u16 = 21;
    pub(in crate::kernel) const GET_ADDRESS: u16 = 22;
    pub(in crate::kernel) const NEW_ROUTE: u16 = 24;
    pub(in crate::kernel) const DELETE_ROUTE: u16 = 25;
    pub(in crate::kernel) const GET_ROUTE: u16 = 26;
    pub(in crate::kernel) const NEW_RULE: u16 = 32;
    pub(in crate::kernel) const DELETE_RULE: u16 = 33;
    pub(in crate::kernel) const GET_RULE: u16 = 34;
    pub(in crate::kernel) const NEW_FILTER: u16 = 44;
    pub(in crate::kernel) const GET_FILTER: u16 = 46;
}

/// Of linux/pkt_cls.h and linux/tc_act/tc_mirred.h.
pub(in crate::kernel) mod tc {
    /// What comes in, with either qdisc that has it: `TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS)`
    pub(in crate::kernel) const INGRESS: u32 = 0xffff_fff2;
    /// `TCA_*`
    pub(in crate::kernel) const KIND: u16 = 1;
    pub(in crate::kernel) const OPTIONS: u16 = 2;
    /// Where in its options a kind of filter has its actions: `TCA_*_ACT`
    pub(in crate::kernel) const ACTIONS: [(&str, u16); 6] = [
        ("u32", 7),
        ("matchall", 2),
        ("flower", 3),
        ("basic", 3),
        ("fw", 4),
        ("bpf", 1),
    ];
    /// `TCA_ACT_*`
    pub(in crate::kernel) const ACTION_KIND: u16 = 1;
    pub(in crate::kernel) const ACTION_OPTIONS: u16 = 2;
    /// `TCA_MIRRED_PARMS`
    pub(in crate::kernel) const MIRRED_PARAMETERS: u16 = 2;
    /// `TCA_EGRESS_REDIR` and `TCA_INGRESS_REDIR`
    pub(in crate::kernel) const REDIRECTIONS: [i32; 2] = [1, 3];
}

/// `IFLA_*`
pub(in crate::kernel) mod link {
    pub(in crate::kernel) const NAME: u16 = 3;
    pub(in crate::kernel) const INFO: u16 = 18;
    /// In that: what an interface is a port of.
    pub(in crate::kernel) const INFO_PORT_KIND: u16 = 4;
}

/// `IFA_*`
pub(in crate::kernel) mod address {
    pub(in crate::kernel) const ADDRESS: u16 = 1;
    pub(in crate::kernel) const LOCAL: u16 = 2;
}

/// `RTA_*`
pub(in crate::kernel) mod route {
    pub(in crate::kernel) const OUT: u16 = 4;
    pub(in crate::kernel) const PRIORITY: u16 = 6;
    pub(in crate::kernel) const METRICS: u16 = 8;
    pub(in crate::kernel) const MULTIPATH: u16 = 9;
    pub(in crate::kernel) const CACHE_INFO: u16 = 12;
    pub(in crate::kernel) const TABLE: u16 = 15;
    pub(in crate::kernel) const PREFERENCE: u16 = 20;
}

/// `FRA_*`
pub(in crate::kernel) mod rule {
    pub(in crate::kernel) const PRIORITY: u16 = 6;
    pub(in crate::kernel) const MARK: u16 = 10;
    pub(in crate::kernel) const SUPPRESS_PREFIX_LENGTH: u16 = 14;
    pub(in crate::kernel) const TABLE: u16 = 15;
    pub(in crate::kernel) const MASK: u16 = 16;
    pub(in crate::kernel) const PROTOCOL: u16 = 21;
}

/// `RTN_*`
pub(in crate::kernel) const UNICAST: u8 = 1;
pub(in crate::kernel) const LOCAL: u8 = 2;
/// `FR_ACT_TO_TBL`
pub(in crate::kernel) const TO_TABLE: u8 = 1;
/// `RTPROT_*`
pub(in crate::kernel) const BOOT: u8 = 3;
pub(in crate::kernel) const BY_ADVERTISEMENT: u8 = 9;
/// `RT_SCOPE_*`
pub(in crate::kernel) const EVERYWHERE: u8 = 0;
pub(in crate::kernel) const HOST: u8 = 254;
/// `RT_TABLE_*`
pub(in crate::kernel) const TABLE_MAIN: u32 = 254;
pub(in crate::kernel) const TABLE_LOCAL: u32 = 255;
/// The kernel gives it to `lo` in every namespace.
pub(in crate::kernel) const LO: u32 = 1;
/// `AF_INET` and `AF_INET6`
pub(in crate::kernel) const IPV4: u8 = 2;
pub(in crate::kernel) const IPV6: u8 = 10;
