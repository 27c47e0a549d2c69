//! BLAKE3 of a message of which a device hashed the spans: the top of the tree.
//!
//! Owns: the order in which chaining values are merged. Never: bytes that a device has hashed.

use crate::interface::SPAN_BYTES;
use blake3::Hasher;
use blake3::hazmat::{ChainingValue, HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root};

/// The hash of a message, from the chaining values of its spans in order, each of [`SPAN_BYTES`].
#[derive(Default)]
pub(super) struct SpanHasher {
    /// Whole subtrees, the largest first; as many as the number of spans before the last has ones in binary, and the last span.
    subtrees: Vec<ChainingValue>,
    spans: u64,
}

impl SpanHasher {
    /// The next span.
    pub fn push(&mut self, value: ChainingValue) {
        self.complete();
        self.subtrees.push(value);
        self.spans += 1;
    }

    /// The hash, once what is left of the message, less than a span, is known. The message is longer than a span, so that the root is a parent.
    pub fn finish(mut self, rest: &[u8]) -> [u8; 32] {
        assert!(rest.len() < SPAN_BYTES, "what is left is less than a span");
        if !rest.is_empty() {
            let mut hasher = Hasher::new();
            hasher.set_input_offset(self.spans * SPAN_BYTES as u64).update(rest);
            self.push(hasher.finalize_non_root());
        }
        let mut right = self.subtrees.pop().expect("a message longer than a span has two subtrees");
        let first = self.subtrees.first().copied().expect("a message longer than a span has two subtrees");
        for left in self.subtrees[1..].iter().rev() {
            right = merge_subtrees_non_root(left, &right, Mode::Hash);
        }
        merge_subtrees_root(&first, &right, Mode::Hash).into()
    }

    /// Merges subtrees that are complete, which is only done when more of the message follows: the last merge of all is the root.
    fn complete(&mut self) {
        while self.subtrees.len() > self.spans.count_ones() as usize {
            let right = self.subtrees.pop().expect("more than one");
            let left = self.subtrees.pop().expect("more than one");
            self.subtrees.push(merge_subtrees_non_root(&left, &right, Mode::Hash));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn spans_and_rest(message: &[u8]) -> [u8; 32] {
        let (spans, rest) = message.as_chunks::<SPAN_BYTES>();
        let mut hash = SpanHasher::default();
        for (number, span) in (0..).zip(spans) {
            let mut hasher = Hasher::new();
            hasher.set_input_offset(number * SPAN_BYTES as u64).update(span);
            hash.push(hasher.finalize_non_root());
        }
        hash.finish(rest)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn spans_hash_like_the_whole(spans in 1usize..20, rest in 0..SPAN_BYTES, seed: u64) {
            let rest = if spans == 1 { rest.max(1) } else if rest % 3 == 0 { 0 } else { rest };
            let mut message = vec![0; spans * SPAN_BYTES + rest];
            Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut message);
            prop_assert_eq!(spans_and_rest(&message), *blake3::hash(&message).as_bytes());
        }
    }

    #[test]
    fn every_number_of_spans_up_to_a_power_of_two_and_beyond() {
        let message = vec![7; 17 * SPAN_BYTES + 96];
        for spans in 2..=17 {
            for rest in [0, 1, 96] {
                let message = &message[..spans * SPAN_BYTES + rest];
                assert_eq!(spans_and_rest(message), *blake3::hash(message).as_bytes(), "{spans} {rest}");
            }
        }
    }
}
