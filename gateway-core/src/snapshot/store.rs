//! `Store`: the state that outlives a reload, outside any snapshot.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

type Key = (String, String, TypeId);

/// State by a stable key and a digest of the options that shape it.
///
/// A snapshot that is being compiled asks for its state here. If the snapshot in force holds state
/// of the same key and digest, the new one shares it; else it starts fresh. The store holds
/// nothing alive by itself: state goes with the last snapshot that uses it.
#[derive(Default)]
pub struct Store {
    held: Mutex<HashMap<Key, Weak<dyn Any + Send + Sync>>>,
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

    /// Forgets the keys whose state is gone.
    pub fn sweep(&self) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.retain(|_, state| state.strong_count() > 0);
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
}
