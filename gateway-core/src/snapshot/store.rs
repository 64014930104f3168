//! `Store`: the state that outlives a reload, outside any snapshot.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use crate::carried::Carried;

type Key = (String, String, TypeId);

/// State by a stable key and a digest of the options that shape it.
///
/// A snapshot that is being compiled asks for its state here. If the snapshot in force holds state
/// of the same key and digest, the new one shares it; else it starts fresh. The store holds
/// nothing alive by itself: state goes with the last snapshot that uses it.
#[derive(Default)]
pub struct Store {
    held: Mutex<HashMap<Key, Weak<dyn Any + Send + Sync>>>,
    carried: Mutex<HashMap<Name, Weak<dyn Carried>>>,
    ticket_secret: OnceLock<[u8; 32]>,
}

/// What tells carried state from other such state, in any process.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub(crate) struct Name {
    pub(crate) key: String,
    pub(crate) digest: String,
}

impl Store {
    /// The state under `key`, made by `new` if none of this type and digest is in use.
    pub fn get<T>(&self, key: &str, digest: &str, new: impl FnOnce() -> T) -> Arc<T>
    where
        T: Any + Send + Sync,
    {
        let id = (key.to_owned(), digest.to_owned(), TypeId::of::<T>());
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let known = held.get(&id).and_then(Weak::upgrade);
        if let Some(state) = known.and_then(|state| state.downcast::<T>().ok()) {
            return state;
        }
        let state = Arc::new(new());
        let shared: Arc<dyn Any + Send + Sync> = state.clone();
        held.insert(id, Arc::downgrade(&shared));
        state
    }

    /// Whether such state is in use.
    pub(crate) fn has<T: Any>(&self, key: &str, digest: &str) -> bool {
        let id = (key.to_owned(), digest.to_owned(), TypeId::of::<T>());
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.get(&id).is_some_and(|state| state.strong_count() > 0)
    }

    /// As [`get`](Self::get), of state that an upgrade hands on. `digest` tells whether it is the same to this
    /// process, `carried` whether it is to another.
    pub(crate) fn get_carried<T>(
        &self,
        key: &str,
        digest: &str,
        carried: &str,
        new: impl FnOnce() -> T,
    ) -> Arc<T>
    where
        T: Any + Carried,
    {
        let state = self.get(key, digest, new);
        let name = Name { key: key.to_owned(), digest: carried.to_owned() };
        let shared: Arc<dyn Carried> = state.clone();
        self.carried().insert(name, Arc::downgrade(&shared));
        state
    }

    /// What session tickets are made with where the config says nothing else: the same for as long as there is a gateway.
    pub(crate) fn ticket_secret(&self) -> &[u8; 32] {
        self.ticket_secret.get_or_init(crate::tls::secret)
    }

    /// Makes session tickets with what another process made them with.
    pub(crate) fn keep_ticket_secret(&self, secret: [u8; 32]) {
        // Whoever took over did so before anything was made with another.
        let _ = self.ticket_secret.set(secret);
    }

    /// What is to be handed on.
    pub(crate) fn carry(&self) -> Vec<(Name, Arc<dyn Carried>)> {
        let carried = self.carried();
        let held = carried.iter().filter_map(|(name, state)| Some((name, state.upgrade()?)));
        held.map(|(name, state)| (name.clone(), state)).collect()
    }

    /// Goes on with what another process handed on. State of another key or digest is nobody's any more.
    pub(crate) fn take_over(&self, name: &Name, bytes: &[u8]) {
        let state = self.carried().get(name).and_then(Weak::upgrade);
        if let Some(Err(error)) = state.map(|state| state.take_over(bytes)) {
            tracing::warn!(state = name.key, %error, "state of the process before cannot be read; it begins anew");
        }
    }

    /// Forgets the keys whose state is gone.
    pub fn sweep(&self) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.retain(|_, state| state.strong_count() > 0);
        self.carried().retain(|_, state| state.strong_count() > 0);
    }

    fn carried(&self) -> MutexGuard<'_, HashMap<Name, Weak<dyn Carried>>> {
        self.carried.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_is_shared_while_key_and_digest_stay_the_same() {
        let store = Store::default();

        let first = store.get("bucket", "100/s", || 1_u32);
        let same = store.get("bucket", "100/s", || 2_u32);
        let changed = store.get("bucket", "200/s", || 3_u32);

        assert_eq!((*first, *same, *changed), (1, 1, 3));
    }

    #[test]
    fn state_goes_with_its_last_user() {
        let store = Store::default();

        drop(store.get("bucket", "100/s", || 1_u32));
        store.sweep();

        assert_eq!(*store.get("bucket", "100/s", || 2_u32), 2);
    }

    #[test]
    fn a_config_that_is_refused_leaves_the_state_in_use_untouched() {
        let store = Store::default();
        let in_use = store.get("bucket", "a", || 1_u32);

        drop(store.get("bucket", "b", || 2_u32));

        assert_eq!(*store.get("bucket", "a", || 3_u32), *in_use);
    }

    #[derive(Default)]
    struct Count(Mutex<u8>);

    impl Carried for Count {
        fn carry(&self) -> Vec<u8> {
            vec![*self.0.lock().unwrap()]
        }

        fn take_over(&self, bytes: &[u8]) -> Result<(), String> {
            let [count] = bytes else { return Err("one byte".to_owned()) };
            *self.0.lock().unwrap() = *count;
            Ok(())
        }
    }

    #[test]
    fn what_is_handed_on_goes_where_key_and_digest_are_the_same() {
        let (before, after) = (Store::default(), Store::default());
        let count = before.get_carried("bucket", "here", "100/s", || Count(Mutex::new(7)));
        drop(before.get_carried("bucket", "gone", "gone", Count::default));
        let same = after.get_carried("bucket", "there", "100/s", Count::default);
        let other = after.get_carried("bucket", "there too", "200/s", Count::default);

        let carried = before.carry();
        assert_eq!(carried.len(), 1, "what is gone is not handed on");
        for (name, state) in carried {
            after.take_over(&name, &state.carry());
            after.take_over(&Name { key: "nobody's".to_owned(), ..name.clone() }, b"7");
            after.take_over(&name, b"not to be read");
        }

        assert_eq!((same.carry(), other.carry()), (vec![7], vec![0]));
        drop(count);
    }
}
