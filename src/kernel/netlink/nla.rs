//! Netlink attributes: read in order without being copied, and written in one pass.

/// An attribute: its kind, without the flags there, and its payload.
#[derive(Debug, Clone, Copy)]
pub(in crate::kernel) struct Attribute<'a> {
    pub(in crate::kernel) kind: u16,
    pub(in crate::kernel) payload: &'a [u8],
}

/// Attributes in a row. What cannot be one ends them as an attribute of [`BROKEN`], which no reader knows.
#[derive(Debug, Clone, Copy)]
pub(in crate::kernel) struct Attributes<'a>(pub(in crate::kernel) &'a [u8]);

/// A kind that there is not.
pub(in crate::kernel) const BROKEN: u16 = u16::MAX;
/// `NLA_F_NESTED | NLA_F_NET_BYTEORDER`
const FLAGS: u16 = 0xc000;
/// Length and kind.
const HEADER: usize = 4;

impl<'a> Iterator for Attributes<'a> {
    type Item = Attribute<'a>;

    fn next(&mut self) -> Option<Attribute<'a>> {
        let Self(rest) = *self;
        if rest.is_empty() {
            return None;
        }
        let header = rest.first_chunk::<HEADER>();
        let length = header.map_or(0, |h| usize::from(u16::from_ne_bytes([h[0], h[1]])));
        let (Some(header), Some(payload)) = (header, rest.get(HEADER..length)) else {
            *self = Self(&[]);
            return Some(Attribute {
                kind: BROKEN,
                payload: rest,
            });
        };
        let kind = u16::from_ne_bytes([header[2], header[3]]) & !FLAGS;
        *self = Self(rest.get(length.next_multiple_of(4)..).unwrap_or_default());
        Some(Attribute { kind, payload })
    }
}

impl<'a> Attributes<'a> {
    /// The first of this kind.
    pub(in crate::kernel) fn find(mut self, kind: u16) -> Option<Attribute<'a>> {
        Iterator::find(&mut self, |a| a.kind == kind)
    }

    /// The number in the first of this kind.
    pub(in crate::kernel) fn number(self, kind: u16) -> Option<u32> {
        self.find(kind)?.number()
    }

    /// The text in the first of this kind.
    pub(in crate::kernel) fn text(self, kind: u16) -> Option<&'a str> {
        self.find(kind)?.text()
    }

    /// What is in the first of this kind.
    pub(in crate::kernel) fn nested(self, kind: u16) -> Option<Self> {
        Some(self.find(kind)?.nested())
    }
}

impl<'a> Attribute<'a> {
    /// 32 bits in network order, as nf_tables writes numbers.
    pub(in crate::kernel) fn number(self) -> Option<u32> {
        Some(u32::from_be_bytes(self.payload.try_into().ok()?))
    }

    /// 32 bits in the machine's order, as rtnetlink writes numbers.
    pub(in crate::kernel) fn native(self) -> Option<u32> {
        Some(u32::from_ne_bytes(self.payload.try_into().ok()?))
    }

    /// Text up to its NUL.
    pub(in crate::kernel) fn text(self) -> Option<&'a str> {
        let end = self.payload.iter().position(|b| *b == 0);
        std::str::from_utf8(&self.payload[..end.unwrap_or(self.payload.len())]).ok()
    }

    /// The attributes in it.
    pub(in crate::kernel) fn nested(self) -> Attributes<'a> {
        Attributes(self.payload)
    }
}

/// `NLA_F_NESTED`: the payload is attributes.
const NLA_F_NESTED: u16 = 0x8000;

/// Writes an attribute.
pub(in crate::kernel) fn put(into: &mut Vec<u8>, kind: u16, payload: &[u8]) {
    begin(into, length_of(payload.len()), kind);
    into.extend_from_slice(payload);
    into.resize(into.len().next_multiple_of(4), 0);
}

/// Writes 32 bits in network order, as nf_tables reads numbers.
pub(in crate::kernel) fn put_number(into: &mut Vec<u8>, kind: u16, number: u32) {
    put(into, kind, &number.to_be_bytes());
}

/// Writes text with a NUL at its end.
pub(in crate::kernel) fn put_text(into: &mut Vec<u8>, kind: u16, text: &str) {
    begin(into, length_of(text.len() + 1), kind);
    into.extend_from_slice(text.as_bytes());
    into.resize((into.len() + 1).next_multiple_of(4), 0);
}

/// Writes an attribute of those that `payload` writes.
pub(in crate::kernel) fn put_nested(
    into: &mut Vec<u8>,
    kind: u16,
    payload: impl FnOnce(&mut Vec<u8>),
) {
    let start = into.len();
    begin(into, 0, NLA_F_NESTED | kind);
    payload(into);
    let length = length_of(into.len() - start - HEADER);
    into[start..start + 2].copy_from_slice(&length.to_ne_bytes());
}

fn begin(into: &mut Vec<u8>, length: u16, kind: u16) {
    let ([a, b], [c, d]) = (length.to_ne_bytes(), kind.to_ne_bytes());
    into.extend_from_slice(&[a, b, c, d]);
}

/// Of an attribute with such a payload. No list of ours comes near the most that there can be: 512 elements are some 18 KiB. Were one
/// cut, what is read back would differ from the plan.
fn length_of(payload: usize) -> u16 {
    u16::try_from(HEADER + payload).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_read_with_padding_and_without_flags() {
        let bytes = [
            &[9, 0, 1, 0x80][..], // nested, and a payload of 5
            b"table\0\0\0",
            &[8, 0, 2, 0x40, 0, 0, 1, 2],
        ]
        .concat();
        let all = Attributes(&bytes);
        assert_eq!(all.text(1), Some("table"));
        assert_eq!(all.number(2), Some(258));
        assert_eq!((all.number(1), all.number(3)), (None, None));
        assert_eq!(all.count(), 2);
    }

    #[test]
    fn what_is_written_is_read() {
        let mut bytes = Vec::new();
        put_nested(&mut bytes, 1, |m| {
            put_text(m, 2, "abc"); // its NUL is the padding
            put_text(m, 3, "abcd");
            put_number(m, 4, 258);
            put(m, 5, &[1, 2, 3]);
        });
        put_nested(&mut bytes, 6, |_| {});
        assert_eq!(bytes.len(), 4 + 8 + 12 + 8 + 8 + 4);
        let all = Attributes(&bytes).nested(1).unwrap();
        assert_eq!((all.text(2), all.text(3)), (Some("abc"), Some("abcd")));
        assert_eq!(all.find(2).unwrap().payload, b"abc\0");
        assert_eq!(all.number(4), Some(258));
        assert_eq!(all.find(5).unwrap().payload, [1, 2, 3]);
        assert_eq!(Attributes(&bytes).nested(6).unwrap().count(), 0);
    }

    #[test]
    fn bytes_that_are_not_an_attribute_end_the_list_with_a_broken_one() {
        for bytes in [&[1, 2][..], &[3, 0, 1, 0], &[12, 0, 1, 0, 1, 2, 3, 4]] {
            let kinds: Vec<_> = Attributes(bytes).map(|a| a.kind).collect();
            assert_eq!(kinds, [BROKEN], "{bytes:?}");
        }
    }
}
