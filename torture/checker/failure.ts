/** Something that must not happen, and did. */
export interface Failure {
  /** Stable, for counting. */
  kind:
    | 'lost_exec'
    | 'lost_write'
    | 'lost_job'
    | 'ran_twice'
    | 'ran_refused'
    | 'ran_other_command'
    | 'wrong_order'
    | 'hole'
    | 'strange_line'
    | 'wrong_content'
    | 'odd_result'
    | 'torn_sqlite'
    | 'torn_git'
    | 'lost_rows'
    | 'lost_commits'
    | 'job_never_ended'
    | 'stop_lied'
    | 'gave_up_save'
    | 'false_loss'
    | 'stuck'
    | 'machine_leaked'
    | 'machine_doubled'
    | 'machine_wrongly_destroyed'
    | 'unasked_stop'
    | 'left_behind';
  session?: string;
  /** Number of the look that shows it, where one does. */
  look?: number;
  /** What it is about: the id of an exec or job, a path, a machine. */
  subject: string;
  detail: string;
}
