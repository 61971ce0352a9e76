use super::uapi;
use crate::kernel::netlink::nla::Attribute;

/// The bytes of a value, where there is nothing else.
pub(super) fn value(data: Attribute<'_>) -> Option<&[u8]> {
    let mut attributes = data.nested();
    let value = attributes.next().filter(|a| a.kind == uapi::data::VALUE)?;
    attributes.next().is_none().then_some(value.payload)
}
