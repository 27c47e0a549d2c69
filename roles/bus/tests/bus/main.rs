//! One suite over both backends of the control bus, and what only a real nats-server can show.
#![allow(clippy::unwrap_used)]

mod backends;
mod clusters;
mod members;
#[path = "../../../shared_tests/nats_cluster.rs"]
mod nats_cluster;
mod nats_only;
#[path = "../../../shared_tests/nats_server.rs"]
mod nats_server;
mod strangers;
mod suite;
mod watches;

/// Makes two tests of each function: in process with a paused clock, and on a real nats-server.
macro_rules! on_both {
    ($($module:ident :: $name:ident),* $(,)?) => {
        mod on_local {
            $(#[tokio::test(start_paused = true)]
            async fn $name() {
                crate::$module::$name(&crate::backends::Backend::local()).await;
            })*
        }
        mod on_nats {
            $(#[tokio::test]
            async fn $name() {
                crate::$module::$name(&crate::backends::Backend::nats()).await;
            })*
        }
    };
}

on_both!(
    suite::everybody_subscribed_hears,
    suite::request_and_reply,
    suite::size_limit,
    suite::bad_names_are_refused,
    suite::compare_and_set,
    suite::silent_expiry,
    suite::settings_must_agree,
    suite::second_job_is_refused_until_the_first_is_done,
    suite::redelivery_after_ack_wait,
    suite::progress_holds_a_job,
    suite::nak_gives_it_back_after_the_delay,
    suite::groups_are_apart_and_own_comes_first,
    suite::what_is_no_job_is_removed,
    watches::replay_then_updates,
    watches::several_filters_are_one_watch,
    watches::deletion_is_seen_and_old_ones_are_not,
    watches::every_key_reaches_its_last_value,
    strangers::two_clusters_hear_nothing_of_each_other,
    strangers::messages_that_cannot_be_read_are_skipped,
    strangers::values_that_cannot_be_read_are_absent_or_kept,
    strangers::jobs_that_cannot_be_read_are_removed_or_left,
    members::join_update_silence_and_return,
    members::leaving_is_told_at_once,
    members::an_old_entry_is_no_sign_of_life,
    members::roles_that_are_not_heard_are_listed,
    members::a_plot_client_hears_of_whom_it_asks,
);
