//! The promises of [`Store`].

mod count;
mod erase;
mod known;
mod last;
mod look;
mod put;
mod read;
mod weeks;

use std::sync::Arc;

use async_trait::async_trait;
use inlet_core::ports::Store;

pub use count::*;
pub use erase::*;
pub use known::*;
pub use last::*;
pub use put::*;
pub use read::*;
pub use weeks::*;

/// Opens a store and causes what only its engine can cause.
#[async_trait]
pub trait StoreFixture: Send + Sync {
    /// Opens the store: empty the first time, with what was put before every other time, as
    /// after a restart. Handles opened before go on working, as those of another process would.
    async fn open(&self) -> Arc<dyn Store>;
    /// From now on the engine refuses each document whose body contains `marker`, until `None`.
    async fn refuse(&self, marker: Option<&str>);
    /// Takes the engine away from its writers (locked, stopped, cut off), or brings it back.
    async fn set_away(&self, away: bool);
}

/// Makes a test of each promise of [`Store`]; the argument is an expression that makes a fresh
/// [`StoreFixture`].
#[macro_export]
macro_rules! store_contract {
    ($fixture:expr) => {
        $crate::contract_tests! {
            store, $fixture,
            store_1_a_batch_is_all_there_also_after_a_restart,
            store_1_a_batch_that_failed_left_nothing,
            store_1_outcomes_are_in_the_order_of_the_documents,
            store_2_a_repeat_is_no_second_document,
            store_2_a_plan_that_rests_on_other_states_is_not_written,
            store_2_two_writers_of_the_same_documents_store_each_once,
            store_2_a_repeat_within_one_batch_is_no_second_document,
            store_3_the_same_id_with_other_bytes_is_a_dead_letter_and_the_first_stays,
            store_4_a_refused_document_is_a_dead_letter_and_the_others_are_stored,
            store_4_a_batch_of_refused_documents_holds_up_nothing,
            store_4_a_refused_document_is_named_and_nothing_is_written,
            store_5_an_engine_that_is_away_is_an_error_and_makes_no_dead_letter,
            store_6_storing_takes_the_dead_letter_with_the_same_bytes_away,
            store_6_a_letter_put_for_a_document_that_is_stored_is_not_kept,
            store_6_storing_leaves_the_dead_letter_with_other_bytes,
            store_7_get_gives_bytes_and_names_as_they_were,
            store_7_find_tells_where_an_id_is,
            store_7_pages_give_each_document_once_in_order,
            store_7_pages_keep_to_stream_and_time,
            store_7_a_cursor_goes_on_where_it_ended_after_more_came_and_some_went,
            store_7_a_cursor_never_skips_a_document_stored_after_the_last_one_was_erased,
            store_8_an_erased_document_is_gone_and_stays_gone,
            store_8_what_is_erased_before_it_is_stored_is_never_stored,
            store_8_erasing_takes_dead_letters_with_it,
            store_8_a_document_sent_anew_after_its_erasure_is_stored,
            store_8_no_order_of_erasing_and_sending_rests_on_a_clock,
            store_8_without_a_generation_the_moment_decides,
            store_8_each_erasure_has_the_next_number,
            store_9_a_cursor_never_moves_backwards,
            store_9_a_document_is_counted_once_however_often_it_comes,
            store_10_dead_letters_are_listed_oldest_first_by_filter,
            store_10_a_redrive_is_noted_on_the_letter,
            store_10_a_letter_that_dies_again_is_one_letter,
            store_11_streams_have_their_figures_in_name_order,
            store_12_its_identity_never_changes,
            store_13_known_gives_the_state_of_each_id_that_has_one,
            store_13_known_answers_for_thousands_of_ids,
            store_14_a_week_has_another_number_after_each_change,
            store_14_no_week_is_forgotten_however_old_it_is,
            store_14_what_was_noted_of_a_week_is_kept,
            store_14_tallies_say_under_which_zones_they_were_counted,
            store_14_tallies_say_up_to_which_cursor_they_count,
            store_15_the_newest_documents_are_behind_their_cursor,
            store_15_behind_the_cursor_of_none_is_what_is_still_to_come,
            store_16_ids_are_found_by_their_beginning,
            store_17_marks_are_those_of_what_was_erased,
            store_17_what_is_read_carries_the_generation_of_its_mark,
            store_check_answers,
        }
    };
}
