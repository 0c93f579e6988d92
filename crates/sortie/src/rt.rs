//! The runtime seam: everything whose schedule a model checker must see goes through here.
//!
//! In every ordinary build this is tokio and `parking_lot`. Under `--cfg sortie_shuttle` the lock and
//! the tasks are shuttle's, so that schedules of the flight table can be explored; time stays
//! tokio's, and the models run without timers.

pub(crate) use tokio::time;

pub(crate) mod sync {
    //! Locks for short sections that never cross an `.await`.

    #[cfg(not(sortie_shuttle))]
    pub(crate) use parking_lot::Mutex;
}
