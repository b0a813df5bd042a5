"""What a run does before its engine starts: its directory and volume, its parameters, its inputs. On the scheduler's threads."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

import orjson

from runomics.domain import failures
from runomics.domain.inputs import InvalidInput, input_uris
from runomics.domain.packaging import file_of
from runomics.domain.parameters import derive_template, read_parameters, signature
from runomics.domain.run import Failed, InputsImported, Prepared
from runomics.ports import ObjectForbidden, ObjectMissing, RunStorage, StorageType, StorageUnavailable
from runomics.scheduler.networks import Networks, NoNetwork
from runomics.scheduler.run_acts import NOTHING_YET, Acts, Happened, failed
from runomics.scheduler.run_notes import RunNotes
from runomics.scheduler.run_plan import RunPlans, write
from runomics.scheduler.transfer import Imported, Transfers
from runomics.scheduler.transfer_work import export_failure
from runomics.store.runs import RunRow

PARAMETERS_LIMIT_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class RunPreparation:
    """STARTING and importing."""

    plans: RunPlans
    storage: RunStorage
    transfers: Transfers
    networks: Networks
    notes: RunNotes
    wake: Callable[[int], None]

    def starting(self, run: RunRow, acts: Acts) -> Happened:
        """Look whether the run can be had here, make its directory and volume, read its parameters."""
        refused = self.plans.access.role_failure(run.account, run.role_arn)
        if refused is not None:
            return failed(refused)
        try:
            self.networks.of_run(run.account, run.extra)
        except NoNetwork as error:
            return failed(failures.of_network(str(error)))
        directory = self.plans.directory(run)
        for name in ("gateway", "engine", "inputs"):
            (directory / name).mkdir(parents=True, exist_ok=True)
        uid = self.plans.uid(run)
        if not self.plans.policy.rootless:
            os.chown(directory / "engine", uid, uid)
        if not (self.plans.definition(run) / file_of(run.main)).is_file():
            return Failed(
                "SERVICE_ERROR", f"The definition of workflow {run.workflow_id} is no longer on this server."
            ), {}
        try:
            self.storage.create(run.uuid, StorageType(run.storage_type), run.storage_capacity_gib, uid)
        except StorageUnavailable as error:
            return failed(failures.of_storage(str(error)))
        return self._with_parameters(run, acts)

    def importing(self, run: RunRow, acts: Acts) -> Happened:
        """Bring the inputs that the parameters name into the run's directory."""
        if acts.imported is None:
            if not acts.importing:
                acts.importing = True
                self._begin_import(run, acts)
            if acts.imported is None:
                return NOTHING_YET
        imported = acts.imported
        if imported.failure is not None:
            return Failed(*imported.failure), {}
        write(self.plans.directory(run) / "staged.json", orjson.dumps(dict(imported.staged)))
        digests = orjson.dumps(dict(imported.digests)).decode() if imported.digests else None
        return InputsImported(), {"resource_digests": digests}

    def _with_parameters(self, run: RunRow, acts: Acts) -> Happened:
        """Prepared, once the parameters are here: those named by parametersUri are read now.

        Source: model (StartRunRequest.parametersUri); assumed (when it is read, INVALID_RUN_PARAMETERS).
        """
        uri = orjson.loads(run.extra).get("parametersUri") if run.parameters is None else None
        if uri is None:
            return Prepared(), {}
        if acts.parameters is None:
            if not acts.reading_parameters:
                acts.reading_parameters = True
                self._read_parameters(run, uri, acts)
            return NOTHING_YET
        document, failure = acts.parameters
        if failure is not None:
            return Failed("INVALID_RUN_PARAMETERS", failure), {}
        return Prepared(), {"parameters": document}

    def _read_parameters(self, run: RunRow, uri: str, acts: Acts) -> None:
        interface = self.plans.interface(run)
        wanted = signature(derive_template(interface.get("inputs", ())))
        workflow_name = str(interface.get("workflow_name") or "")

        def done(data: bytes | None, failure: str | None) -> None:
            acts.parameters = (None, failure) if data is None else read_parameters(data, wanted, workflow_name)
            self.wake(run.id)

        self.transfers.read_object(uri, PARAMETERS_LIMIT_BYTES, done, objects=self.plans.objects(run))

    def _begin_import(self, run: RunRow, acts: Acts) -> None:
        def done(imported: Imported) -> None:
            acts.imported = imported
            self.wake(run.id)

        try:
            uris = input_uris(self.plans.parameters(run), self.plans.declared_inputs(run))
        except InvalidInput as error:
            acts.imported = Imported(staged={}, digests={}, failure=(error.reason, str(error)))
            return
        bucket = run.output_uri.removeprefix("s3://").split("/", 1)[0]
        objects = self.plans.objects(run)

        def check() -> tuple[str, str] | None:
            """Results must have somewhere to go before anything is computed."""
            try:
                if objects.bucket_exists(bucket):
                    return None
            except ObjectForbidden as error:
                return export_failure("of the run", run.run_output_uri, error)
            except ObjectMissing:
                pass
            failure = failures.of_missing_output_bucket(bucket)
            return failure.reason, failure.message

        if uris:
            self.notes.note(run, f"Importing {len(uris)} inputs.")
        self.transfers.import_inputs(self.plans.directory(run), uris, done, check=check, objects=objects)
