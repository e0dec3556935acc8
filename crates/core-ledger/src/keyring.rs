//! Which keys may sign for a store, from which leaf of its log to which.
//!
//! A key is enrolled, takes the place of another (both sign that it does), or is revoked from a size of the log on. What
//! a tree head of size n covers says which keys may sign it. `docs/formats/audit-log.md` is normative.

use crate::events::{EventBody, Leaf};
use crate::keys::{KeyRole, PrivateKey};
use crate::note::{self, NoteError, NoteKey};

/// A key with the sizes of the log at which it may sign: above `after`, and at most `until`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeySpan {
    /// What it may sign.
    pub role: KeyRole,
    /// The key.
    pub key: NoteKey,
    /// The index of the leaf that let it in.
    pub after: u64,
    /// The last size for which it may sign; `None` while it is in force.
    pub until: Option<u64>,
    /// The key whose place it took.
    pub replaced: Option<NoteKey>,
}

const KNOWN: &str = "a key that was enrolled before";

/// The keys of a store.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Keyring {
    spans: Vec<KeySpan>,
    rejected: Vec<(u64, &'static str)>,
}

impl Keyring {
    /// Folds the leaves of a log, in order. What does not hold is passed over and told by [`Keyring::rejected`].
    pub fn of<'a>(leaves: impl IntoIterator<Item = &'a Leaf>) -> Self {
        let mut ring = Self::default();
        for (index, leaf) in leaves.into_iter().enumerate() {
            ring.push(index as u64, &leaf.event.body);
        }
        ring
    }

    /// Folds the next leaf.
    pub fn push(&mut self, index: u64, body: &EventBody) {
        if let Err(why) = self.fold(index, body) {
            self.rejected.push((index, why));
        }
    }

    fn fold(&mut self, index: u64, body: &EventBody) -> Result<(), &'static str> {
        match body {
            EventBody::KeyEnrolled { role, vkey } => self.enrol(role, vkey, index, None),
            EventBody::KeyRotated { role, old, new, note } => {
                let body = rotation_body(role, old, new);
                let keys = [parse(old)?, parse(new)?];
                let signed = note::signatures(note.as_bytes(), &keys);
                if !signed.is_ok_and(|(text, signed)| text == body && signed.len() == 2) {
                    return Err("a rotation that the old and the new key have not both signed");
                }
                let [old, new_key] = keys;
                if self.spans.iter().any(|span| span.key == new_key) {
                    return Err(KNOWN);
                }
                self.end(role, &old, index).ok_or("a rotation of a key that was not in force")?;
                self.enrol(role, new, index, Some(old))
            }
            EventBody::KeyRevoked { role, vkey, from_size } => {
                let key = parse(vkey)?;
                let span = self.spans.iter_mut().find(|s| s.role.name() == role && s.key == key);
                let span = span.ok_or("a revocation of a key that was never let in")?;
                // Also what a key signed before it was rotated away may turn out to be a thief's.
                let until = (*from_size).min(index);
                if span.until.is_some_and(|ended| ended <= until) {
                    return Err("a revocation of a key that had ended before");
                }
                span.until = Some(until);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn enrol(
        &mut self,
        role: &str,
        vkey: &str,
        index: u64,
        replaced: Option<NoteKey>,
    ) -> Result<(), &'static str> {
        let role = role.parse().map_err(|_| "a key of an unknown role")?;
        let key = parse(vkey)?;
        if self.spans.iter().any(|s| s.role == role && s.key == key) {
            // A key that was ended does not come back.
            return Err(KNOWN);
        }
        self.spans.push(KeySpan { role, key, after: index, until: None, replaced });
        Ok(())
    }

    fn end(&mut self, role: &str, key: &NoteKey, until: u64) -> Option<()> {
        let span =
            self.spans.iter_mut().find(|s| s.role.name() == role && s.key == *key && s.until.is_none())?;
        span.until = Some(until);
        Some(())
    }

    /// The keys of a role that may sign for a log of this size.
    pub fn in_force(&self, role: KeyRole, size: u64) -> Vec<NoteKey> {
        let may =
            |s: &&KeySpan| s.role == role && s.after < size && s.until.is_none_or(|until| size <= until);
        self.spans.iter().filter(may).map(|s| s.key.clone()).collect()
    }

    /// Whether a key is among `roots`, or took the place of such a key by rotations.
    pub fn descends(&self, key: &NoteKey, roots: &[NoteKey]) -> bool {
        // A span's key was let in after the one that it replaced, so the walk ends.
        let mut at = Some(key);
        while let Some(key) = at {
            if roots.contains(key) {
                return true;
            }
            at = self.spans.iter().find(|span| span.key == *key).and_then(|span| span.replaced.as_ref());
        }
        false
    }

    /// Every key that was ever let in, in order.
    pub fn spans(&self) -> &[KeySpan] {
        &self.spans
    }

    /// The leaves about keys that were passed over, with the reason.
    pub fn rejected(&self) -> &[(u64, &'static str)] {
        &self.rejected
    }
}

fn parse(vkey: &str) -> Result<NoteKey, &'static str> {
    vkey.parse().map_err(|_| "a key that is not a verification key")
}

fn rotation_body(role: &str, old: &str, new: &str) -> String {
    format!("bitproof.local/key-rotation/v1\n{role}\n{old}\n{new}\n")
}

/// The event by which `new` takes the place of `old` under a name, signed by both.
///
/// # Errors
/// [`NoteError`] for a name that a note cannot carry.
pub fn rotation(old: &PrivateKey, new: &PrivateKey, name: &str) -> Result<EventBody, NoteError> {
    let (role, was, is) =
        (old.role().to_string(), old.note_key(name)?.to_string(), new.note_key(name)?.to_string());
    let body = rotation_body(&role, &was, &is);
    let first = old.sign_note(&body, name)?;
    let second = new.sign_note(&body, name)?;
    let line = second.strip_prefix(&format!("{body}\n")).unwrap_or_default().to_owned();
    Ok(EventBody::KeyRotated { role, old: was, new: is, note: first + &line })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::{Actor, Event};

    const NAME: &str = "bitproof.local/x";

    fn key(seed: u8) -> PrivateKey {
        PrivateKey::from_bytes(KeyRole::Log, &[seed; 32])
    }
    fn public(seed: u8) -> NoteKey {
        key(seed).note_key(NAME).unwrap()
    }
    fn enrolled(seed: u8) -> EventBody {
        EventBody::KeyEnrolled { role: "log".to_owned(), vkey: public(seed).to_string() }
    }
    fn revoked(seed: u8, from_size: u64) -> EventBody {
        EventBody::KeyRevoked { role: "log".to_owned(), vkey: public(seed).to_string(), from_size }
    }
    fn ring(bodies: Vec<EventBody>) -> Keyring {
        let actor = Actor { key_id: String::new(), user: String::new(), host: String::new() };
        let leaf = |body: EventBody| Leaf {
            offset: 0,
            event: Event { id: body.id(), claimed_unix_seconds: 0, actor: actor.clone(), body },
        };
        let leaves: Vec<Leaf> = bodies.into_iter().map(leaf).collect();
        Keyring::of(&leaves)
    }

    #[test]
    fn a_key_takes_the_place_of_another_at_its_leaf() {
        let ring = ring(vec![enrolled(1), rotation(&key(1), &key(2), NAME).unwrap(), enrolled(1)]);
        assert_eq!(ring.in_force(KeyRole::Log, 1), [public(1)]);
        assert_eq!(ring.in_force(KeyRole::Log, 2), [public(2)]);
        assert_eq!(ring.in_force(KeyRole::Log, 3), [public(2)], "a key that was ended does not come back");
        assert_eq!(ring.rejected(), [(2, "a key that was enrolled before")]);
        assert!(ring.in_force(KeyRole::Artifact, 3).is_empty());
        assert!(ring.descends(&public(2), &[public(1)]) && !ring.descends(&public(1), &[public(2)]));
    }

    #[test]
    fn a_rotation_needs_both_signatures_over_itself() {
        let EventBody::KeyRotated { role, old, new, note } = rotation(&key(1), &key(2), NAME).unwrap() else {
            unreachable!("a rotation is made")
        };
        let with = |old: &str, new: &str, note: &str| {
            let (role, old, new, note) = (role.clone(), old.to_owned(), new.to_owned(), note.to_owned());
            ring(vec![enrolled(1), EventBody::KeyRotated { role, old, new, note }])
        };
        assert_eq!(with(&old, &new, &note).in_force(KeyRole::Log, 2), [public(2)]);
        let lines: Vec<&str> = note.lines().collect();
        let without = |drop: usize| {
            lines
                .iter()
                .enumerate()
                .filter(|(i, _)| *i != drop)
                .map(|(_, l)| format!("{l}\n"))
                .collect::<String>()
        };
        let other = public(3).to_string();
        for (mutation, ring) in [
            ("one-signature", with(&old, &new, &without(lines.len() - 1))),
            ("other-signature", with(&old, &new, &without(lines.len() - 2))),
            ("other-new-key", with(&old, &other, &note)),
            ("itself", ring(vec![enrolled(1), rotation(&key(1), &key(1), NAME).unwrap()])),
            ("stranger-as-old", ring(vec![enrolled(1), rotation(&key(3), &key(2), NAME).unwrap()])),
        ] {
            assert_eq!(ring.in_force(KeyRole::Log, 2), [public(1)], "{mutation}");
            assert_eq!(ring.rejected().len(), 1, "{mutation}");
        }
    }

    #[test]
    fn a_revoked_key_counts_for_nothing_from_a_size_on() {
        let ring = ring(vec![enrolled(1), enrolled(2), enrolled(3), revoked(1, 2)]);
        assert_eq!(ring.in_force(KeyRole::Log, 2), [public(1), public(2)]);
        assert_eq!(ring.in_force(KeyRole::Log, 3), [public(2), public(3)]);
        let late = super::tests::ring(vec![enrolled(1), enrolled(2), revoked(1, 900), revoked(1, 5)]);
        assert_eq!(late.in_force(KeyRole::Log, 3), [public(2)], "a revocation ends a key at its own leaf");
        assert_eq!(late.rejected().len(), 1, "and one that comes later does not let it in again");
        let rotated = rotation(&key(1), &key(2), NAME).unwrap();
        let stolen = super::tests::ring(vec![enrolled(1), enrolled(3), rotated, revoked(1, 1)]);
        assert_eq!(stolen.in_force(KeyRole::Log, 1), [public(1)]);
        assert_eq!(stolen.in_force(KeyRole::Log, 2), [public(3)], "also before it was rotated away");
    }
}
