//! Who a farm is: its key pair, the file that holds it, reward signatures and reward addresses (PROTOCOL 6 end, 7).

use blake2::{Blake2b512, Digest};
use schnorrkel::{ExpansionMode, Keypair, MiniSecretKey, PublicKey, Signature, signing_context};
use sha2::Sha512;

/// Bytes of `identity.bin`: SCALE compact length 32 (0x80), then 32 bytes of entropy.
pub const IDENTITY_FILE_SIZE: usize = 33;
/// Compact encoding of the length 32.
const ENTROPY_LENGTH_PREFIX: u8 = 0x80;
/// sr25519 signing context of reward signatures.
const REWARD_SIGNING_CONTEXT: &[u8] = b"subspace_reward";
/// Rounds that the network's key derivation from entropy takes.
const PBKDF2_ROUNDS: u32 = 2048;

/// Key material or an address that is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// The identity file does not hold 33 bytes starting with 0x80.
    #[error(
        "identity of {0} bytes is damaged: it must be 33 bytes, the first 0x80; restore identity.bin from a backup, since the \
         farm's sectors are bound to it"
    )]
    DamagedFile(usize),
    /// The address is not base58.
    #[error("'{0}' is not an SS58 address: it holds characters that base58 does not have")]
    NotBase58(String),
    /// The address decodes to the wrong number of bytes.
    #[error("'{address}' is not an SS58 address of an account: {bytes} bytes instead of 35 or 36")]
    AddressLength {
        /// As given.
        address: String,
        /// Bytes it decodes to.
        bytes: usize,
    },
    /// The network prefix is reserved.
    #[error("'{0}' has a network prefix that SS58 reserves")]
    ReservedPrefix(String),
    /// The checksum does not match.
    #[error("'{0}' has a wrong SS58 checksum: look for a mistyped or missing character")]
    AddressChecksum(String),
}

/// The key pair of a farm.
#[derive(Clone)]
pub struct Identity {
    entropy: [u8; 32],
    keypair: Keypair,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").field("public_key", &self.public_key()).finish_non_exhaustive()
    }
}

impl Identity {
    /// From 32 bytes of entropy: a Substrate BIP39 mini secret with an empty password, expanded in Ed25519 mode.
    pub fn from_entropy(entropy: [u8; 32]) -> Self {
        let seed = derive_seed(&entropy, b"mnemonic");
        let mini_secret = MiniSecretKey::from_bytes(&seed[..32]).expect("any 32 bytes are a mini secret");
        Self { entropy, keypair: mini_secret.expand_to_keypair(ExpansionMode::Ed25519) }
    }

    /// Reads the contents of `identity.bin`.
    pub fn from_file_bytes(bytes: &[u8]) -> Result<Self, IdentityError> {
        match bytes.split_first() {
            Some((&ENTROPY_LENGTH_PREFIX, entropy)) if bytes.len() == IDENTITY_FILE_SIZE => {
                Ok(Self::from_entropy(entropy.try_into().expect("33 bytes less one")))
            }
            _ => Err(IdentityError::DamagedFile(bytes.len())),
        }
    }

    /// The contents of `identity.bin`.
    pub fn to_file_bytes(&self) -> [u8; IDENTITY_FILE_SIZE] {
        let mut bytes = [ENTROPY_LENGTH_PREFIX; IDENTITY_FILE_SIZE];
        bytes[1..].copy_from_slice(&self.entropy);
        bytes
    }

    /// sr25519 public key.
    pub fn public_key(&self) -> [u8; 32] {
        self.keypair.public.to_bytes()
    }

    /// Signs a reward hash. Signatures are randomised: sign a hash once and keep the signature.
    pub fn sign_reward_hash(&self, hash: &[u8; 32]) -> [u8; 64] {
        self.keypair.sign(signing_context(REWARD_SIGNING_CONTEXT).bytes(hash)).to_bytes()
    }
}

/// PBKDF2 of the entropy itself, not of the words that it could be written as.
fn derive_seed(entropy: &[u8], salt: &[u8]) -> [u8; 64] {
    let mut seed = [0; 64];
    pbkdf2::pbkdf2::<hmac::Hmac<Sha512>>(entropy, salt, PBKDF2_ROUNDS, &mut seed)
        .expect("HMAC takes keys of any length");
    seed
}

/// Whether a reward signature is by this key over this hash; bytes that are no key or signature are not.
pub fn is_reward_signature_valid(hash: &[u8; 32], signature: &[u8; 64], public_key: &[u8; 32]) -> bool {
    let (Ok(public_key), Ok(signature)) =
        (PublicKey::from_bytes(public_key), Signature::from_bytes(signature))
    else {
        return false;
    };
    public_key.verify(signing_context(REWARD_SIGNING_CONTEXT).bytes(hash), &signature).is_ok()
}

/// The account of an SS58 address of any network that is not reserved.
pub fn parse_reward_address(address: &str) -> Result<[u8; 32], IdentityError> {
    let bytes = bs58::decode(address).into_vec().map_err(|_| IdentityError::NotBase58(address.into()))?;
    let length_error = || IdentityError::AddressLength { address: address.into(), bytes: bytes.len() };
    let prefix_length = match bytes.first().ok_or_else(length_error)? {
        0..64 => 1,
        64..128 => 2,
        _ => return Err(IdentityError::ReservedPrefix(address.into())),
    };
    if bytes.len() != prefix_length + 32 + 2 {
        return Err(length_error());
    }
    let (body, checksum) = bytes.split_at(prefix_length + 32);
    if ss58_hash(body)[..2] != *checksum {
        return Err(IdentityError::AddressChecksum(address.into()));
    }
    if matches!(ss58_prefix(&bytes[..prefix_length]), 46 | 47) {
        return Err(IdentityError::ReservedPrefix(address.into()));
    }
    Ok(body[prefix_length..].try_into().expect("32 bytes follow the prefix"))
}

/// The SS58 address of an account under a network prefix below 16 384.
pub fn format_address(account: &[u8; 32], prefix: u16) -> String {
    let mut body = match prefix {
        0..64 => vec![prefix as u8],
        _ => vec![(prefix & 0xfc) as u8 >> 2 | 0x40, (prefix >> 8) as u8 | (prefix << 6) as u8],
    };
    body.extend(account);
    let hash = ss58_hash(&body);
    body.extend(&hash[..2]);
    bs58::encode(body).into_string()
}

fn ss58_prefix(bytes: &[u8]) -> u16 {
    match *bytes {
        [first, second] => {
            let low = first << 2 | second >> 6;
            u16::from(low) | u16::from(second & 0x3f) << 8
        }
        _ => u16::from(bytes[0]),
    }
}

fn ss58_hash(body: &[u8]) -> [u8; 64] {
    Blake2b512::new().chain_update(b"SS58PRE").chain_update(body).finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The well-known development account of Substrate chains.
    const ALICE: [u8; 32] = [
        0xd4, 0x35, 0x93, 0xc7, 0x15, 0xfd, 0xd3, 0x1c, 0x61, 0x14, 0x1a, 0xbd, 0x04, 0xa9, 0x9f, 0xd6, 0x82,
        0x2c, 0x85, 0x58, 0x85, 0x4c, 0xcd, 0xe3, 0x9a, 0x56, 0x84, 0xe7, 0xa5, 0x6d, 0xa2, 0x7d,
    ];
    const ALICE_ADDRESS: &str = "5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY";

    #[test]
    fn known_address() {
        assert_eq!(parse_reward_address(ALICE_ADDRESS).unwrap(), ALICE);
        assert_eq!(format_address(&ALICE, 42), ALICE_ADDRESS);
        assert!(format_address(&ALICE, 2254).starts_with("st"));
        assert!(format_address(&ALICE, 6094).starts_with("su"));
    }

    #[test]
    fn bad_addresses_say_why() {
        let mistyped = ALICE_ADDRESS.replacen("Gr", "Gs", 1);
        for (address, part) in
            [(mistyped.as_str(), "checksum"), ("0OIl", "base58"), ("", "35 or 36"), ("111", "35 or 36")]
        {
            let error = parse_reward_address(address).unwrap_err().to_string();
            assert!(error.contains(part), "{address}: {error}");
        }
    }

    /// Substrate's own vector for entropy of zeros, which has the password "Substrate" in its salt.
    #[test]
    fn seed_is_derived_as_substrate_does() {
        let seed = derive_seed(&[0; 16], b"mnemonicSubstrate");
        assert_eq!(
            hex::encode(seed),
            "44e9d125f037ac1d51f0a7d3649689d422c2af8b1ec8e00d71db4d7bf6d127e3\
             3f50c3d5c84fa3e5399c72d6cbbbbc4a49bf76f76d952f479d74655a2ef2d453"
        );
    }

    #[test]
    fn identity_files_round_trip() {
        let identity = Identity::from_entropy([5; 32]);
        let read = Identity::from_file_bytes(&identity.to_file_bytes()).unwrap();
        assert_eq!(read.public_key(), identity.public_key());
        assert_ne!(read.public_key(), Identity::from_entropy([6; 32]).public_key());
    }

    #[test]
    fn damaged_files_are_errors() {
        let bytes = Identity::from_entropy([7; 32]).to_file_bytes();
        assert!(Identity::from_file_bytes(&bytes[..32]).is_err());
        assert!(Identity::from_file_bytes(&[]).is_err());
        let mut flipped = bytes;
        flipped[0] ^= 1;
        assert!(Identity::from_file_bytes(&flipped).is_err());
    }

    #[test]
    fn signatures_bind_hash_and_key() {
        let identity = Identity::from_entropy([1; 32]);
        let signature = identity.sign_reward_hash(&[2; 32]);
        assert!(is_reward_signature_valid(&[2; 32], &signature, &identity.public_key()));
        assert!(!is_reward_signature_valid(&[3; 32], &signature, &identity.public_key()));
        assert!(!is_reward_signature_valid(
            &[2; 32],
            &signature,
            &Identity::from_entropy([9; 32]).public_key()
        ));
        assert!(!is_reward_signature_valid(&[2; 32], &[255; 64], &identity.public_key()));
    }

    proptest! {
        #[test]
        fn addresses_round_trip(account: [u8; 32], prefix in 0u16..16384) {
            prop_assume!(prefix != 46 && prefix != 47);
            let address = format_address(&account, prefix);
            prop_assert_eq!(parse_reward_address(&address).unwrap(), account);
        }
    }
}
