use std::collections::VecDeque;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use super::*;
use crate::control::tests::control;
use crate::event::Mail;

const MANUAL: Behaviour = Behaviour {
    auto_finalize: true,
    auto_dismiss: false,
    completable: true,
};

fn spec(id: &str, behaviour: Behaviour) -> JobSpec {
    JobSpec {
        id: id.to_owned(),
        kind: JobType::Create,
        behaviour,
    }
}

fn status(control: &Control) -> Option<JobStatus> {
    control.jobs.query().first().map(|info| info.status)
}

/// Serves mail until the first job is there.
fn until(control: &mut Control, wanted: Option<JobStatus>) {
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut mail = VecDeque::new();
    while status(control) != wanted {
        assert!(Instant::now() < deadline, "{:?}", status(control));
        control.mailbox.take(&mut mail);
        while let Some(mail) = mail.pop_front() {
            let Mail::Done(finish) = mail else {
                panic!("nothing else comes")
            };
            finish(control);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn refused(control: &mut Control, verb: JobVerb) -> String {
    control.job_verb("j", verb).unwrap_err().desc
}

#[test]
fn a_job_is_paused_and_completed() {
    let mut control = control();
    let (go, wait) = mpsc::channel::<()>();
    let body: Body = Box::new(move |cx| {
        cx.set_remaining(2);
        wait.recv().unwrap();
        if !cx.pause_point() {
            return Err("cancelled".to_owned());
        }
        cx.advance(1);
        cx.ready();
        if !cx.wait_for_completion() {
            return Err("cancelled".to_owned());
        }
        cx.advance(1);
        Ok(None)
    });
    control.start_job(spec("j", MANUAL), body).unwrap();
    assert_eq!(status(&control), Some(JobStatus::Running));
    control.job_verb("j", JobVerb::Pause).unwrap();
    assert_eq!(
        refused(&mut control, JobVerb::Pause),
        "Job is already paused"
    );
    go.send(()).unwrap();
    until(&mut control, Some(JobStatus::Paused));
    control.job_verb("j", JobVerb::Resume).unwrap();
    until(&mut control, Some(JobStatus::Ready));
    control.job_verb("j", JobVerb::Pause).unwrap();
    control.job_verb("j", JobVerb::Complete).unwrap();
    control.job_verb("j", JobVerb::Resume).unwrap();
    until(&mut control, Some(JobStatus::Concluded));
    let info = control.jobs.query().remove(0);
    assert_eq!((info.current_progress, info.total_progress), (2, 2));
    assert_eq!(info.error, None);
    assert_eq!(
        refused(&mut control, JobVerb::Cancel),
        "Job 'j' in state 'concluded' cannot accept command verb 'cancel'"
    );
    control.job_verb("j", JobVerb::Dismiss).unwrap();
    assert!(control.jobs.query().is_empty());
    assert_eq!(refused(&mut control, JobVerb::Dismiss), "Job not found");
}

#[test]
fn cancelled_jobs_end_wherever_they_are() {
    for pause in [false, true] {
        let mut control = control();
        let body: Body = Box::new(|cx| {
            cx.ready();
            match cx.wait_for_completion() {
                true => Ok(None),
                false => Err("Operation canceled".to_owned()),
            }
        });
        control.start_job(spec("j", MANUAL), body).unwrap();
        until(&mut control, Some(JobStatus::Ready));
        if pause {
            control.job_verb("j", JobVerb::Pause).unwrap();
            until(&mut control, Some(JobStatus::Standby));
        }
        control.job_verb("j", JobVerb::Cancel).unwrap();
        until(&mut control, Some(JobStatus::Concluded));
        let error = control.jobs.query().remove(0).error;
        assert_eq!(error.as_deref(), Some("Operation canceled"));
    }
}

#[test]
fn last_steps_wait_and_may_fail() {
    let mut control = control();
    let manual = Behaviour {
        auto_finalize: false,
        ..MANUAL
    };
    let body: Body = Box::new(|_| Ok(Some(Box::new(|| Err("no room".to_owned())))));
    control.start_job(spec("j", manual), body).unwrap();
    until(&mut control, Some(JobStatus::Pending));
    control.job_verb("j", JobVerb::Finalize).unwrap();
    assert!(refused(&mut control, JobVerb::Cancel).contains("'pending'"));
    until(&mut control, Some(JobStatus::Concluded));
    let error = control.jobs.query().remove(0).error;
    assert_eq!(error.as_deref(), Some("no room"));
    control.job_verb("j", JobVerb::Dismiss).unwrap();
    // Given up before.
    let (dropped, is_dropped) = mpsc::channel::<()>();
    let body: Body = Box::new(move |_| {
        Ok(Some(Box::new(move || {
            dropped.send(()).unwrap();
            Ok(())
        })))
    });
    control.start_job(spec("j", manual), body).unwrap();
    until(&mut control, Some(JobStatus::Pending));
    control.job_verb("j", JobVerb::Cancel).unwrap();
    assert_eq!(status(&control), Some(JobStatus::Concluded));
    is_dropped.recv().unwrap_err();
}

#[test]
fn names_are_checked_and_jobs_forgotten() {
    let mut control = control();
    let auto = Behaviour {
        auto_dismiss: true,
        ..MANUAL
    };
    let body = || -> Body { Box::new(|_| Ok(None)) };
    let refuse = |control: &mut Control, id: &str| {
        let refused = control.start_job(spec(id, auto), body());
        refused.unwrap_err().desc
    };
    for id in ["", "0", "a b"] {
        let wanted = format!("Invalid job ID '{id}'");
        assert_eq!(refuse(&mut control, id), wanted);
    }
    control.start_job(spec("j", auto), body()).unwrap();
    assert_eq!(refuse(&mut control, "j"), "Job ID 'j' already in use");
    until(&mut control, None);
    control.start_job(spec("j", auto), body()).unwrap();
    until(&mut control, None);
}

#[test]
fn the_end_waits_for_jobs() {
    let mut control = control();
    let (ended, wait) = mpsc::channel::<()>();
    let body: Body = Box::new(move |cx| {
        while !cx.is_cancelled() {
            std::thread::sleep(Duration::from_millis(1));
        }
        ended.send(()).unwrap();
        Err("cancelled".to_owned())
    });
    control.start_job(spec("j", MANUAL), body).unwrap();
    control.jobs.shut_down();
    wait.try_recv().unwrap();
}
