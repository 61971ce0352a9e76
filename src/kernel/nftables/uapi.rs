//! Numbers of linux/netfilter/nf_tables.h and nfnetlink.h by which messages are written and read.

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
    /// `NFPROTO_*`
    family: u8 { UNSPECIFIED = 0, INET = 1, IPV4 = 2, NETDEV = 5, IPV6 = 10, }
    /// `NFNL_MSG_BATCH_*`
    control: u16 { BATCH_BEGIN = 16, BATCH_END = 17, }
    /// `NFNL_BATCH_*`
    batch_begin: u16 { GENERATION = 1, }
    /// `NFT_MSG_*`: what a message asks for, or which object it holds (`NEW_`).
    message: u8 {
        NEW_TABLE = 0, GET_TABLE = 1, DELETE_TABLE = 2,
        NEW_CHAIN = 3, GET_CHAIN = 4,
        NEW_RULE = 6, GET_RULE = 7, DELETE_RULE = 8,
        NEW_SET = 9, GET_SET = 10,
        NEW_ELEMENTS = 12, GET_ELEMENTS = 13,
        NEW_GENERATION = 15, GET_GENERATION = 16,
    }
    /// `NFTA_TABLE_*`
    table: u16 { NAME = 1, FLAGS = 2, USE = 3, }
    /// `NFTA_CHAIN_*`
    chain: u16 { TABLE = 1, NAME = 3, HOOK = 4, POLICY = 5, TYPE = 7, }
    /// `NFTA_HOOK_*`
    hook: u16 { NUMBER = 1, PRIORITY = 2, DEVICE = 3, DEVICES = 4, }
    /// `NF_INET_*`
    hook_number: u32 { PREROUTING = 0, OUTPUT = 3, }
    /// `NFTA_RULE_*`
    rule: u16 { TABLE = 1, CHAIN = 2, EXPRESSIONS = 4, }
    /// `NFTA_EXPR_*`
    expression: u16 { NAME = 1, DATA = 2, }
    /// `NFTA_LIST_*`
    list: u16 { ENTRY = 1, }
    /// `NFTA_SET_*`
    set: u16 { TABLE = 1, NAME = 2, FLAGS = 3, KEY_TYPE = 4, KEY_LENGTH = 5, DESCRIPTION = 9, ID = 10, USER_DATA = 13, }
    /// `NFTA_SET_DESC_*`
    set_description: u16 { SIZE = 1, }
    /// `NFT_SET_*`
    set_flag: u32 { ANONYMOUS = 1, CONSTANT = 2, INTERVAL = 4, }
    /// `NFTA_SET_ELEM_LIST_*`
    elements: u16 { TABLE = 1, SET = 2, LIST = 3, SET_ID = 4, }
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
    /// `NFT_PAYLOAD_*`
    payload_base: u32 { NETWORK_HEADER = 1, TRANSPORT_HEADER = 2, }
    /// `NFTA_BITWISE_*`
    bitwise: u16 { FROM = 1, TO = 2, LENGTH = 3, MASK = 4, XOR = 5, OP = 6, }
    /// `NFTA_CMP_*`
    compare: u16 { FROM = 1, OP = 2, DATA = 3, }
    /// `NFT_CMP_*`
    operator: u32 { EQUAL = 0, NOT_EQUAL = 1, }
    /// `NFTA_LOOKUP_*`
    lookup: u16 { SET = 1, FROM = 2, TO = 3, SET_ID = 4, FLAGS = 5, }
    /// `NFT_LOOKUP_F_*`
    lookup_flag: u32 { INVERTED = 1, }
    /// `NFTA_CT_*`
    ct: u16 { TO = 1, KEY = 2, FROM = 4, }
    /// `NFT_CT_*`
    ct_key: u32 { STATE = 0, MARK = 3, ZONE = 17, }
    /// `NFTA_REDIR_*`
    redir: u16 { PORT = 1, LAST_PORT = 2, FLAGS = 3, }
    /// `NFTA_TPROXY_*`
    tproxy: u16 { FAMILY = 1, PORT = 3, }
    /// `NFTA_TARGET_*`
    target: u16 { NAME = 1, }
    /// `NFTA_GEN_*`
    generation: u16 { ID = 1, }
}
