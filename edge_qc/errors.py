"""Every exception that edge-qc raises on purpose.

    EdgeQCError                 exit status 1
    ├── UsageError              the call was wrong                         exit 2
    ├── SettingsError           station.toml must be corrected             exit 78, no restart
    ├── BundleError             the model bundle must be replaced          exit 78, no restart
    │   └── AcceptanceError     an engine does not reproduce the bundle's golden answers
    ├── DataError               an image or a table must be corrected      exit 1
    ├── DeviceError             hardware or its driver; retried            exit 1, restart
    │   ├── CameraError         a camera
    │   ├── EngineError         an inference engine
    │   └── OutputError         a controller or a pin; its parts are rejected
    ├── PublishError            broker or outbox; never stops inspection   exit 1
    └── RecordError             the plant's records and their database     exit 1

Subclasses group errors by what the operator must do. A message states the problem, the value seen,
the value wanted, and the next step. Each room wraps the errors of the libraries that it calls. This
module imports nothing.
"""


class EdgeQCError(Exception):
    """Root of the tree: catches everything that edge-qc raises on purpose."""

    exit_status = 1


class UsageError(EdgeQCError):
    """The command or function was called with an invalid argument."""

    exit_status = 2


class SettingsError(EdgeQCError):
    """``station.toml`` cannot be used as it is."""

    exit_status = 78


class BundleError(EdgeQCError):
    """A model bundle is missing, altered, too new, or not signed as the station requires."""

    exit_status = 78


class AcceptanceError(BundleError):
    """An engine runs, but its answers to the golden views differ from the bundle's."""


class DataError(EdgeQCError):
    """An image or a table of labels is invalid."""


class DeviceError(EdgeQCError):
    """A device or its driver failed; a retry may succeed."""


class CameraError(DeviceError):
    """A camera could not be opened, or stopped delivering frames."""


class EngineError(DeviceError):
    """An inference engine could not be opened, or returned unusable output."""


class OutputError(DeviceError):
    """A controller or a pin did not accept a value, or does not respond."""


class PublishError(EdgeQCError):
    """The broker or the outbox failed; inspection goes on."""


class RecordError(EdgeQCError):
    """The database of records cannot be reached, read or written."""
