//! The runtime seam: everything whose schedule a model checker must see goes through here.
//!
//! In every ordinary build this is tokio, `parking_lot` and the standard library. Under
//! `--cfg sortie_shuttle` the locks, the atomics and the tasks are shuttle's, so that schedules of
//! the flight table and of the cache in memory can be explored; time stays tokio's, and the models
//! run without timers.

pub(crate) use tokio::time;

pub(crate) mod sync {
    //! Locks for short sections that never cross an `.await`.

    #[cfg(not(sortie_shuttle))]
    pub(crate) use {
        parking_lot::{Mutex, MutexGuard, RwLock},
        std::sync::atomic::AtomicU64,
    };

    #[cfg(sortie_shuttle)]
    pub(crate) use shuttle::sync::{MutexGuard, atomic::AtomicU64};

    /// Shuttle's lock with the face of `parking_lot`'s.
    #[cfg(sortie_shuttle)]
    #[derive(Debug, Default)]
    pub(crate) struct Mutex<T>(shuttle::sync::Mutex<T>);

    #[cfg(sortie_shuttle)]
    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(shuttle::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
        }
    }

    /// As [`Mutex`], for readers and writers.
    #[cfg(sortie_shuttle)]
    #[derive(Debug, Default)]
    pub(crate) struct RwLock<T>(shuttle::sync::RwLock<T>);

    #[cfg(sortie_shuttle)]
    impl<T> RwLock<T> {
        pub(crate) fn read(&self) -> shuttle::sync::RwLockReadGuard<'_, T> {
            self.0.read().unwrap_or_else(std::sync::PoisonError::into_inner)
        }

        pub(crate) fn write(&self) -> shuttle::sync::RwLockWriteGuard<'_, T> {
            self.0.write().unwrap_or_else(std::sync::PoisonError::into_inner)
        }
    }
}

pub(crate) mod task {
    //! Tasks that outlive the caller who started them. A flight owns its task through the abort
    //! handle in the table; a registry's watchers end by themselves, within milliseconds of the
    //! last load they look after.

    use std::task::Context;

    /// Has the current task polled again when those that wait to run have run.
    #[cfg(not(sortie_shuttle))]
    pub(crate) fn after_others(task: &mut Context<'_>) {
        let once = std::pin::pin!(tokio::task::yield_now()).poll(task);
        debug_assert!(once.is_pending(), "its first poll only asks for another");
    }

    #[cfg(sortie_shuttle)]
    pub(crate) fn after_others(task: &mut Context<'_>) {
        task.waker().wake_by_ref();
    }

    #[cfg(not(sortie_shuttle))]
    pub(crate) use tokio::{
        runtime::{Handle, Id as RuntimeId},
        task::AbortHandle,
    };

    /// There is one.
    #[cfg(sortie_shuttle)]
    #[derive(Clone, Copy, Debug, Eq, PartialEq)]
    pub(crate) struct RuntimeId;

    /// Shuttle's runtime, which is always the current one.
    #[cfg(sortie_shuttle)]
    #[derive(Clone, Debug)]
    pub(crate) struct Handle;

    #[cfg(sortie_shuttle)]
    impl Handle {
        pub(crate) fn try_current() -> Result<Self, std::convert::Infallible> {
            Ok(Self)
        }

        pub(crate) fn id(&self) -> RuntimeId {
            RuntimeId
        }

        pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> Spawned {
            Spawned(shuttle::future::spawn(task))
        }
    }

    #[cfg(sortie_shuttle)]
    pub(crate) struct Spawned(shuttle::future::JoinHandle<()>);

    #[cfg(sortie_shuttle)]
    impl Spawned {
        pub(crate) fn abort_handle(&self) -> AbortHandle {
            AbortHandle(self.0.abort_handle())
        }
    }

    #[cfg(sortie_shuttle)]
    pub(crate) struct AbortHandle(shuttle::future::AbortHandle);

    #[cfg(sortie_shuttle)]
    impl AbortHandle {
        pub(crate) fn abort(&self) {
            self.0.abort();
        }
    }
}
