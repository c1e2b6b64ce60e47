//! Commands about jobs, and what is done by jobs.

use api_spec::reply::Empty;
use api_spec::{
    BlockdevCheckArgs, BlockdevCreateArgs, CommandContext, ImageCheck, JobCancelArgs,
    JobCompleteArgs, JobDismissArgs, JobFinalizeArgs, JobInfo, JobPauseArgs, JobResumeArgs,
    JobVerb, JobsCommands, QmpResult, Reply, SnapshotDeleteArgs, SnapshotLoadArgs,
    SnapshotSaveArgs,
};

use crate::control::Control;

use super::DONE;

impl JobsCommands for Control {
    fn snapshot_save(
        &mut self,
        _cx: &mut CommandContext,
        args: SnapshotSaveArgs,
    ) -> QmpResult<Empty> {
        self.save_snapshot(args)?;
        DONE
    }

    fn snapshot_load(
        &mut self,
        _cx: &mut CommandContext,
        args: SnapshotLoadArgs,
    ) -> QmpResult<Empty> {
        self.load_snapshot(args)?;
        DONE
    }

    fn snapshot_delete(
        &mut self,
        _cx: &mut CommandContext,
        args: SnapshotDeleteArgs,
    ) -> QmpResult<Empty> {
        self.delete_snapshot(args)?;
        DONE
    }

    fn query_jobs(&mut self, _cx: &mut CommandContext) -> QmpResult<Vec<JobInfo>> {
        Ok(self.jobs.query())
    }

    fn job_pause(&mut self, _cx: &mut CommandContext, args: JobPauseArgs) -> QmpResult<Empty> {
        self.job_verb(&args.id, JobVerb::Pause)?;
        DONE
    }

    fn job_resume(&mut self, _cx: &mut CommandContext, args: JobResumeArgs) -> QmpResult<Empty> {
        self.job_verb(&args.id, JobVerb::Resume)?;
        DONE
    }

    fn job_cancel(&mut self, _cx: &mut CommandContext, args: JobCancelArgs) -> QmpResult<Empty> {
        self.job_verb(&args.id, JobVerb::Cancel)?;
        DONE
    }

    fn job_complete(
        &mut self,
        _cx: &mut CommandContext,
        args: JobCompleteArgs,
    ) -> QmpResult<Empty> {
        self.job_verb(&args.id, JobVerb::Complete)?;
        DONE
    }

    fn job_dismiss(&mut self, _cx: &mut CommandContext, args: JobDismissArgs) -> QmpResult<Empty> {
        self.job_verb(&args.id, JobVerb::Dismiss)?;
        DONE
    }

    fn job_finalize(
        &mut self,
        _cx: &mut CommandContext,
        args: JobFinalizeArgs,
    ) -> QmpResult<Empty> {
        self.job_verb(&args.id, JobVerb::Finalize)?;
        DONE
    }

    fn blockdev_create(
        &mut self,
        _cx: &mut CommandContext,
        args: BlockdevCreateArgs,
    ) -> QmpResult<Empty> {
        self.create_image(args)?;
        DONE
    }

    fn blockdev_check(
        &mut self,
        _cx: &mut CommandContext,
        args: BlockdevCheckArgs,
        reply: Reply<ImageCheck>,
    ) {
        self.check_image(&args, reply);
    }
}
