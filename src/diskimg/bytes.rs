//! Little-endian fields inside raw blocks. The only file that turns numbers
//! into bytes; knows no structure. Reading outside the buffer gives zero
//! (a 32-byte group descriptor has no upper halves), never a panic.

/// An unsigned number that ext4 stores little-endian.
pub(in crate::diskimg) trait LeField: Sized {
    /// The number at `offset`; zero where the buffer ends before it.
    fn get(buffer: &[u8], offset: usize) -> Self;
    /// Stores the number at `offset`; nothing where the buffer ends before it.
    fn put(self, buffer: &mut [u8], offset: usize);
}

macro_rules! le_field {
    ($($ty:ty),*) => { $(
        impl LeField for $ty {
            fn get(buffer: &[u8], offset: usize) -> Self {
                const LEN: usize = size_of::<$ty>();
                let mut bytes = [0u8; LEN];
                let end = offset.saturating_add(LEN);
                if let Some(field) = buffer.get(offset..end) {
                    bytes.copy_from_slice(field);
                }
                <$ty>::from_le_bytes(bytes)
            }

            fn put(self, buffer: &mut [u8], offset: usize) {
                let end = offset.saturating_add(size_of::<$ty>());
                let field = buffer.get_mut(offset..end);
                debug_assert!(field.is_some(), "field at {offset} outside its structure");
                if let Some(field) = field {
                    field.copy_from_slice(&self.to_le_bytes());
                }
            }
        }
    )* };
}
le_field!(u8, u16, u32, u64);

/// Copies `value` to `offset`; both must lie inside the structure.
pub(in crate::diskimg) fn put_bytes(buffer: &mut [u8], offset: usize, value: &[u8]) {
    let field = buffer.get_mut(offset..offset.saturating_add(value.len()));
    debug_assert!(field.is_some(), "bytes at {offset} outside their structure");
    if let Some(field) = field {
        field.copy_from_slice(value);
    }
}

/// The `N` bytes at `offset`; zeros where the buffer ends before them.
pub(in crate::diskimg) fn get_bytes<const N: usize>(buffer: &[u8], offset: usize) -> [u8; N] {
    let mut value = [0u8; N];
    if let Some(field) = buffer.get(offset..offset.saturating_add(N)) {
        value.copy_from_slice(field);
    }
    value
}

/// Stores a big-endian word: the journal is the one part of ext4 that uses
/// network byte order.
pub(in crate::diskimg) fn put_be32(buffer: &mut [u8], offset: usize, value: u32) {
    put_bytes(buffer, offset, &value.to_be_bytes());
}

/// Declares an on-disk structure's fields: offset, getter and setter, type.
/// The table is the format's description, so a field that only one side uses
/// is still listed in full.
macro_rules! le_fields {
    ($owner:ident { $( $(#[$meta:meta])* $offset:literal $get:ident $set:ident $ty:ident; )* }) => {
        #[allow(dead_code)] // the table describes the format, used or not
        impl $owner { $(
            $(#[$meta])*
            pub(in crate::diskimg) fn $get(&self) -> $ty {
                <$ty as $crate::diskimg::bytes::LeField>::get(&self.raw, $offset)
            }

            $(#[$meta])*
            pub(in crate::diskimg) fn $set(&mut self, value: $ty) {
                <$ty as $crate::diskimg::bytes::LeField>::put(value, &mut self.raw, $offset);
            }
        )* }
    };
}
pub(in crate::diskimg) use le_fields;
