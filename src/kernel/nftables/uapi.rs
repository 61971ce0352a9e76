//! Numbers of linux/netfilter/nf_tables.h and nfnetlink.h by which answers are read.

/// `NFNL_SUBSYS_NFTABLES`
pub(super) const SUBSYSTEM: u16 = 10;

macro_rules! numbers {
    ($($(#[$doc:meta])* $group:ident: $type:ty { $($name:ident = $value:expr,)+ })+) => {
        $($(#[$doc])* pub(super) mod $group {
            $(pub(in crate::kernel::nftables) const $name: $type = $value;)+
        })+
    };
}

numbers! {
    /// `NFT_MSG_*`: what an object is.
    object: u8 { TABLE = 0, CHAIN = 3, RULE = 6, GENERATION = 15, }
    /// `NFTA_TABLE_*`
    table: u16 { NAME = 1, FLAGS = 2, USE = 3, }
    /// `NFTA_CHAIN_*`
    chain: u16 { TABLE = 1, NAME = 3, HOOK = 4, POLICY = 5, TYPE = 7, }
    /// `NFTA_HOOK_*`
    hook: u16 { NUMBER = 1, PRIORITY = 2, DEVICE = 3, DEVICES = 4, }
    /// `NFTA_RULE_*`
    rule: u16 { TABLE = 1, CHAIN = 2, EXPRESSIONS = 4, }
    /// `NFTA_EXPR_*`
    expression: u16 { NAME = 1, DATA = 2, }
    /// `NFTA_SET_*`
    set: u16 { NAME = 2, FLAGS = 3, }
    /// `NFT_SET_*`
    set_flag: u32 { ANONYMOUS = 1, CONSTANT = 2, INTERVAL = 4, }
    /// `NFTA_SET_ELEM_LIST_*`
    elements: u16 { LIST = 3, ENTRY = 1, }
    /// `NFTA_SET_ELEM_*`
    element: u16 { KEY = 1, FLAGS = 3, }
    /// `NFT_SET_ELEM_*`
    element_flag: u32 { INTERVAL_END = 1, }
    /// `NFTA_DATA_*`
    data: u16 { VALUE = 1, VERDICT = 2, }
    /// `NFTA_VERDICT_*`
    verdict: u16 { CODE = 1, CHAIN = 2, }
    /// `NF_*` and `NFT_*`: verdict codes.
    code: u32 { DROP = 0, ACCEPT = 1, CONTINUE = u32::MAX, JUMP = -3i32 as u32, RETURN = -5i32 as u32, }
    /// `NFT_REG_*`
    register: u32 { VERDICT = 0, R1 = 1, }
    /// `NFTA_IMMEDIATE_*`
    immediate: u16 { REGISTER = 1, DATA = 2, }
    /// `NFTA_META_*`
    meta: u16 { TO = 1, KEY = 2, FROM = 3, }
    /// `NFT_META_*`
    meta_key: u32 { PROTOCOL = 1, MARK = 3, IIFNAME = 6, OIFNAME = 7, SKUID = 10, SKGID = 11, NFPROTO = 15, L4PROTO = 16, }
    /// `NFTA_PAYLOAD_*`
    payload: u16 { TO = 1, BASE = 2, OFFSET = 3, LENGTH = 4, FROM = 5, }
    /// `NFTA_BITWISE_*`
    bitwise: u16 { FROM = 1, TO = 2, LENGTH = 3, MASK = 4, XOR = 5, OP = 6, }
    /// `NFTA_CMP_*`
    compare: u16 { FROM = 1, OP = 2, DATA = 3, }
    /// `NFT_CMP_*`
    operator: u32 { EQUAL = 0, NOT_EQUAL = 1, }
    /// `NFTA_LOOKUP_*`
    lookup: u16 { SET = 1, FROM = 2, TO = 3, FLAGS = 5, }
    /// `NFTA_CT_*`
    ct: u16 { TO = 1, KEY = 2, FROM = 4, }
    /// `NFTA_REDIR_*`
    redir: u16 { PORT = 1, LAST_PORT = 2, FLAGS = 3, }
    /// `NFTA_TPROXY_*`
    tproxy: u16 { FAMILY = 1, PORT = 3, }
    /// `NFTA_TARGET_*`
    target: u16 { NAME = 1, }
    /// `NFTA_GEN_*`
    generation: u16 { ID = 1, }
}
