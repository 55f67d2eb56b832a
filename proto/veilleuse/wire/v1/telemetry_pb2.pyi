from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Band(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    BAND_UNSPECIFIED: _ClassVar[Band]
    BAND_OPEN: _ClassVar[Band]
    BAND_NIGHT: _ClassVar[Band]
    BAND_CLOSED: _ClassVar[Band]

class State(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    STATE_UNSPECIFIED: _ClassVar[State]
    STATE_ON_ACTIVE: _ClassVar[State]
    STATE_ON_IDLE: _ClassVar[State]
    STATE_ASLEEP: _ClassVar[State]
    STATE_OFF: _ClassVar[State]
    STATE_UNKNOWN: _ClassVar[State]

class Supply(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SUPPLY_UNSPECIFIED: _ClassVar[Supply]
    SUPPLY_AC: _ClassVar[Supply]
    SUPPLY_BATTERY: _ClassVar[Supply]
    SUPPLY_UNKNOWN: _ClassVar[Supply]

class PointKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    POINT_KIND_UNSPECIFIED: _ClassVar[PointKind]
    POINT_KIND_RAPL: _ClassVar[PointKind]
    POINT_KIND_HWMON: _ClassVar[PointKind]
    POINT_KIND_BATTERY_OUT: _ClassVar[PointKind]
    POINT_KIND_BATTERY_IN: _ClassVar[PointKind]
    POINT_KIND_GPU: _ClassVar[PointKind]
    POINT_KIND_BMC: _ClassVar[PointKind]
    POINT_KIND_UPS: _ClassVar[PointKind]
    POINT_KIND_PDU: _ClassVar[PointKind]
    POINT_KIND_PLUG: _ClassVar[PointKind]
    POINT_KIND_EMI: _ClassVar[PointKind]
    POINT_KIND_POWERMETRICS: _ClassVar[PointKind]
    POINT_KIND_FAKE: _ClassVar[PointKind]

class Boundary(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    BOUNDARY_UNSPECIFIED: _ClassVar[Boundary]
    BOUNDARY_WALL: _ClassVar[Boundary]
    BOUNDARY_MACHINE_DC: _ClassVar[Boundary]
    BOUNDARY_COMPONENT: _ClassVar[Boundary]

class DisplaySize(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DISPLAY_SIZE_UNSPECIFIED: _ClassVar[DisplaySize]
    DISPLAY_SIZE_UNDER_22: _ClassVar[DisplaySize]
    DISPLAY_SIZE_22_TO_27: _ClassVar[DisplaySize]
    DISPLAY_SIZE_OVER_27: _ClassVar[DisplaySize]
    DISPLAY_SIZE_UNKNOWN: _ClassVar[DisplaySize]

class GapReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    GAP_REASON_UNSPECIFIED: _ClassVar[GapReason]
    GAP_REASON_REFUSED: _ClassVar[GapReason]
    GAP_REASON_SPOOL_CAP: _ClassVar[GapReason]
    GAP_REASON_RING_EXPIRED: _ClassVar[GapReason]
    GAP_REASON_SENSOR_LOST: _ClassVar[GapReason]
    GAP_REASON_CLOCK_UNKNOWN: _ClassVar[GapReason]
    GAP_REASON_DISABLED: _ClassVar[GapReason]
    GAP_REASON_SPOOL_DAMAGED: _ClassVar[GapReason]

class DeviceClass(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DEVICE_CLASS_UNSPECIFIED: _ClassVar[DeviceClass]
    DEVICE_CLASS_LAPTOP: _ClassVar[DeviceClass]
    DEVICE_CLASS_MINI_PC: _ClassVar[DeviceClass]
    DEVICE_CLASS_SFF: _ClassVar[DeviceClass]
    DEVICE_CLASS_TOWER: _ClassVar[DeviceClass]
    DEVICE_CLASS_ALL_IN_ONE: _ClassVar[DeviceClass]
    DEVICE_CLASS_THIN_CLIENT: _ClassVar[DeviceClass]
    DEVICE_CLASS_SERVER: _ClassVar[DeviceClass]
    DEVICE_CLASS_VIRTUAL_MACHINE: _ClassVar[DeviceClass]
    DEVICE_CLASS_UNKNOWN: _ClassVar[DeviceClass]

class AppliedState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    APPLIED_STATE_UNSPECIFIED: _ClassVar[AppliedState]
    APPLIED_STATE_APPLIED: _ClassVar[AppliedState]
    APPLIED_STATE_CONFIRMED: _ClassVar[AppliedState]
    APPLIED_STATE_FAILED: _ClassVar[AppliedState]

class PushOutcome(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PUSH_OUTCOME_UNSPECIFIED: _ClassVar[PushOutcome]
    PUSH_OUTCOME_STORED: _ClassVar[PushOutcome]
    PUSH_OUTCOME_EXPECTED_EARLIER: _ClassVar[PushOutcome]
    PUSH_OUTCOME_CONFLICT: _ClassVar[PushOutcome]
    PUSH_OUTCOME_REFUSED: _ClassVar[PushOutcome]

class Population(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    POPULATION_UNSPECIFIED: _ClassVar[Population]
    POPULATION_WORKSTATION: _ClassVar[Population]
    POPULATION_CLASSROOM: _ClassVar[Population]
    POPULATION_SERVER: _ClassVar[Population]
BAND_UNSPECIFIED: Band
BAND_OPEN: Band
BAND_NIGHT: Band
BAND_CLOSED: Band
STATE_UNSPECIFIED: State
STATE_ON_ACTIVE: State
STATE_ON_IDLE: State
STATE_ASLEEP: State
STATE_OFF: State
STATE_UNKNOWN: State
SUPPLY_UNSPECIFIED: Supply
SUPPLY_AC: Supply
SUPPLY_BATTERY: Supply
SUPPLY_UNKNOWN: Supply
POINT_KIND_UNSPECIFIED: PointKind
POINT_KIND_RAPL: PointKind
POINT_KIND_HWMON: PointKind
POINT_KIND_BATTERY_OUT: PointKind
POINT_KIND_BATTERY_IN: PointKind
POINT_KIND_GPU: PointKind
POINT_KIND_BMC: PointKind
POINT_KIND_UPS: PointKind
POINT_KIND_PDU: PointKind
POINT_KIND_PLUG: PointKind
POINT_KIND_EMI: PointKind
POINT_KIND_POWERMETRICS: PointKind
POINT_KIND_FAKE: PointKind
BOUNDARY_UNSPECIFIED: Boundary
BOUNDARY_WALL: Boundary
BOUNDARY_MACHINE_DC: Boundary
BOUNDARY_COMPONENT: Boundary
DISPLAY_SIZE_UNSPECIFIED: DisplaySize
DISPLAY_SIZE_UNDER_22: DisplaySize
DISPLAY_SIZE_22_TO_27: DisplaySize
DISPLAY_SIZE_OVER_27: DisplaySize
DISPLAY_SIZE_UNKNOWN: DisplaySize
GAP_REASON_UNSPECIFIED: GapReason
GAP_REASON_REFUSED: GapReason
GAP_REASON_SPOOL_CAP: GapReason
GAP_REASON_RING_EXPIRED: GapReason
GAP_REASON_SENSOR_LOST: GapReason
GAP_REASON_CLOCK_UNKNOWN: GapReason
GAP_REASON_DISABLED: GapReason
GAP_REASON_SPOOL_DAMAGED: GapReason
DEVICE_CLASS_UNSPECIFIED: DeviceClass
DEVICE_CLASS_LAPTOP: DeviceClass
DEVICE_CLASS_MINI_PC: DeviceClass
DEVICE_CLASS_SFF: DeviceClass
DEVICE_CLASS_TOWER: DeviceClass
DEVICE_CLASS_ALL_IN_ONE: DeviceClass
DEVICE_CLASS_THIN_CLIENT: DeviceClass
DEVICE_CLASS_SERVER: DeviceClass
DEVICE_CLASS_VIRTUAL_MACHINE: DeviceClass
DEVICE_CLASS_UNKNOWN: DeviceClass
APPLIED_STATE_UNSPECIFIED: AppliedState
APPLIED_STATE_APPLIED: AppliedState
APPLIED_STATE_CONFIRMED: AppliedState
APPLIED_STATE_FAILED: AppliedState
PUSH_OUTCOME_UNSPECIFIED: PushOutcome
PUSH_OUTCOME_STORED: PushOutcome
PUSH_OUTCOME_EXPECTED_EARLIER: PushOutcome
PUSH_OUTCOME_CONFLICT: PushOutcome
PUSH_OUTCOME_REFUSED: PushOutcome
POPULATION_UNSPECIFIED: Population
POPULATION_WORKSTATION: Population
POPULATION_CLASSROOM: Population
POPULATION_SERVER: Population

class Record(_message.Message):
    __slots__ = ("measurement", "gap")
    MEASUREMENT_FIELD_NUMBER: _ClassVar[int]
    GAP_FIELD_NUMBER: _ClassVar[int]
    measurement: Measurement
    gap: Gap
    def __init__(self, measurement: _Optional[_Union[Measurement, _Mapping]] = ..., gap: _Optional[_Union[Gap, _Mapping]] = ...) -> None: ...

class Measurement(_message.Message):
    __slots__ = ("period", "calendar_sha256", "idle_rule_version", "points", "cells", "gaps")
    PERIOD_FIELD_NUMBER: _ClassVar[int]
    CALENDAR_SHA256_FIELD_NUMBER: _ClassVar[int]
    IDLE_RULE_VERSION_FIELD_NUMBER: _ClassVar[int]
    POINTS_FIELD_NUMBER: _ClassVar[int]
    CELLS_FIELD_NUMBER: _ClassVar[int]
    GAPS_FIELD_NUMBER: _ClassVar[int]
    period: Period
    calendar_sha256: bytes
    idle_rule_version: int
    points: _containers.RepeatedCompositeFieldContainer[Point]
    cells: _containers.RepeatedCompositeFieldContainer[Cell]
    gaps: _containers.RepeatedCompositeFieldContainer[GapTotal]
    def __init__(self, period: _Optional[_Union[Period, _Mapping]] = ..., calendar_sha256: _Optional[bytes] = ..., idle_rule_version: _Optional[int] = ..., points: _Optional[_Iterable[_Union[Point, _Mapping]]] = ..., cells: _Optional[_Iterable[_Union[Cell, _Mapping]]] = ..., gaps: _Optional[_Iterable[_Union[GapTotal, _Mapping]]] = ...) -> None: ...

class Period(_message.Message):
    __slots__ = ("clock", "date", "week")
    CLOCK_FIELD_NUMBER: _ClassVar[int]
    DATE_FIELD_NUMBER: _ClassVar[int]
    WEEK_FIELD_NUMBER: _ClassVar[int]
    clock: ClockPeriod
    date: LocalDate
    week: IsoWeek
    def __init__(self, clock: _Optional[_Union[ClockPeriod, _Mapping]] = ..., date: _Optional[_Union[LocalDate, _Mapping]] = ..., week: _Optional[_Union[IsoWeek, _Mapping]] = ...) -> None: ...

class ClockPeriod(_message.Message):
    __slots__ = ("start_unix_milliseconds", "duration_milliseconds")
    START_UNIX_MILLISECONDS_FIELD_NUMBER: _ClassVar[int]
    DURATION_MILLISECONDS_FIELD_NUMBER: _ClassVar[int]
    start_unix_milliseconds: int
    duration_milliseconds: int
    def __init__(self, start_unix_milliseconds: _Optional[int] = ..., duration_milliseconds: _Optional[int] = ...) -> None: ...

class LocalDate(_message.Message):
    __slots__ = ("year", "month", "day")
    YEAR_FIELD_NUMBER: _ClassVar[int]
    MONTH_FIELD_NUMBER: _ClassVar[int]
    DAY_FIELD_NUMBER: _ClassVar[int]
    year: int
    month: int
    day: int
    def __init__(self, year: _Optional[int] = ..., month: _Optional[int] = ..., day: _Optional[int] = ...) -> None: ...

class IsoWeek(_message.Message):
    __slots__ = ("year", "week")
    YEAR_FIELD_NUMBER: _ClassVar[int]
    WEEK_FIELD_NUMBER: _ClassVar[int]
    year: int
    week: int
    def __init__(self, year: _Optional[int] = ..., week: _Optional[int] = ...) -> None: ...

class Point(_message.Message):
    __slots__ = ("kind", "domain", "boundary", "subject")
    KIND_FIELD_NUMBER: _ClassVar[int]
    DOMAIN_FIELD_NUMBER: _ClassVar[int]
    BOUNDARY_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    kind: PointKind
    domain: str
    boundary: Boundary
    subject: str
    def __init__(self, kind: _Optional[_Union[PointKind, str]] = ..., domain: _Optional[str] = ..., boundary: _Optional[_Union[Boundary, str]] = ..., subject: _Optional[str] = ...) -> None: ...

class Cell(_message.Message):
    __slots__ = ("band", "state", "supply", "milliseconds", "energies", "cpu_covered_milliseconds", "cpu_busy_milliseconds", "cpu_bucket_milliseconds", "memory_bucket_milliseconds", "any_core_busy_milliseconds", "idle_beyond_15_minutes_milliseconds", "idle_beyond_30_minutes_milliseconds", "idle_beyond_60_minutes_milliseconds", "network_rate_milliseconds", "update_window_milliseconds", "update_window_energies", "displays", "units", "own_cpu_milliseconds")
    BAND_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    SUPPLY_FIELD_NUMBER: _ClassVar[int]
    MILLISECONDS_FIELD_NUMBER: _ClassVar[int]
    ENERGIES_FIELD_NUMBER: _ClassVar[int]
    CPU_COVERED_MILLISECONDS_FIELD_NUMBER: _ClassVar[int]
    CPU_BUSY_MILLISECONDS_FIELD_NUMBER: _ClassVar[int]
    CPU_BUCKET_MILLISECONDS_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BUCKET_MILLISECONDS_FIELD_NUMBER: _ClassVar[int]
    ANY_CORE_BUSY_MILLISECONDS_FIELD_NUMBER: _ClassVar[int]
    IDLE_BEYOND_15_MINUTES_MILLISECONDS_FIELD_NUMBER: _ClassVar[int]
    IDLE_BEYOND_30_MINUTES_MILLISECONDS_FIELD_NUMBER: _ClassVar[int]
    IDLE_BEYOND_60_MINUTES_MILLISECONDS_FIELD_NUMBER: _ClassVar[int]
    NETWORK_RATE_MILLISECONDS_FIELD_NUMBER: _ClassVar[int]
    UPDATE_WINDOW_MILLISECONDS_FIELD_NUMBER: _ClassVar[int]
    UPDATE_WINDOW_ENERGIES_FIELD_NUMBER: _ClassVar[int]
    DISPLAYS_FIELD_NUMBER: _ClassVar[int]
    UNITS_FIELD_NUMBER: _ClassVar[int]
    OWN_CPU_MILLISECONDS_FIELD_NUMBER: _ClassVar[int]
    band: Band
    state: State
    supply: Supply
    milliseconds: int
    energies: _containers.RepeatedCompositeFieldContainer[PointEnergy]
    cpu_covered_milliseconds: int
    cpu_busy_milliseconds: int
    cpu_bucket_milliseconds: _containers.RepeatedScalarFieldContainer[int]
    memory_bucket_milliseconds: _containers.RepeatedScalarFieldContainer[int]
    any_core_busy_milliseconds: int
    idle_beyond_15_minutes_milliseconds: int
    idle_beyond_30_minutes_milliseconds: int
    idle_beyond_60_minutes_milliseconds: int
    network_rate_milliseconds: _containers.RepeatedScalarFieldContainer[int]
    update_window_milliseconds: int
    update_window_energies: _containers.RepeatedCompositeFieldContainer[PointEnergy]
    displays: _containers.RepeatedCompositeFieldContainer[DisplayTime]
    units: _containers.RepeatedCompositeFieldContainer[UnitTime]
    own_cpu_milliseconds: int
    def __init__(self, band: _Optional[_Union[Band, str]] = ..., state: _Optional[_Union[State, str]] = ..., supply: _Optional[_Union[Supply, str]] = ..., milliseconds: _Optional[int] = ..., energies: _Optional[_Iterable[_Union[PointEnergy, _Mapping]]] = ..., cpu_covered_milliseconds: _Optional[int] = ..., cpu_busy_milliseconds: _Optional[int] = ..., cpu_bucket_milliseconds: _Optional[_Iterable[int]] = ..., memory_bucket_milliseconds: _Optional[_Iterable[int]] = ..., any_core_busy_milliseconds: _Optional[int] = ..., idle_beyond_15_minutes_milliseconds: _Optional[int] = ..., idle_beyond_30_minutes_milliseconds: _Optional[int] = ..., idle_beyond_60_minutes_milliseconds: _Optional[int] = ..., network_rate_milliseconds: _Optional[_Iterable[int]] = ..., update_window_milliseconds: _Optional[int] = ..., update_window_energies: _Optional[_Iterable[_Union[PointEnergy, _Mapping]]] = ..., displays: _Optional[_Iterable[_Union[DisplayTime, _Mapping]]] = ..., units: _Optional[_Iterable[_Union[UnitTime, _Mapping]]] = ..., own_cpu_milliseconds: _Optional[int] = ...) -> None: ...

class PointEnergy(_message.Message):
    __slots__ = ("point_index", "energy_millijoules", "covered_milliseconds")
    POINT_INDEX_FIELD_NUMBER: _ClassVar[int]
    ENERGY_MILLIJOULES_FIELD_NUMBER: _ClassVar[int]
    COVERED_MILLISECONDS_FIELD_NUMBER: _ClassVar[int]
    point_index: int
    energy_millijoules: int
    covered_milliseconds: int
    def __init__(self, point_index: _Optional[int] = ..., energy_millijoules: _Optional[int] = ..., covered_milliseconds: _Optional[int] = ...) -> None: ...

class DisplayTime(_message.Message):
    __slots__ = ("size", "milliseconds")
    SIZE_FIELD_NUMBER: _ClassVar[int]
    MILLISECONDS_FIELD_NUMBER: _ClassVar[int]
    size: DisplaySize
    milliseconds: int
    def __init__(self, size: _Optional[_Union[DisplaySize, str]] = ..., milliseconds: _Optional[int] = ...) -> None: ...

class UnitTime(_message.Message):
    __slots__ = ("name", "cpu_milliseconds")
    NAME_FIELD_NUMBER: _ClassVar[int]
    CPU_MILLISECONDS_FIELD_NUMBER: _ClassVar[int]
    name: str
    cpu_milliseconds: int
    def __init__(self, name: _Optional[str] = ..., cpu_milliseconds: _Optional[int] = ...) -> None: ...

class GapTotal(_message.Message):
    __slots__ = ("reason", "milliseconds", "source")
    REASON_FIELD_NUMBER: _ClassVar[int]
    MILLISECONDS_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    reason: GapReason
    milliseconds: int
    source: str
    def __init__(self, reason: _Optional[_Union[GapReason, str]] = ..., milliseconds: _Optional[int] = ..., source: _Optional[str] = ...) -> None: ...

class Gap(_message.Message):
    __slots__ = ("reason", "spans", "records", "gap_id")
    REASON_FIELD_NUMBER: _ClassVar[int]
    SPANS_FIELD_NUMBER: _ClassVar[int]
    RECORDS_FIELD_NUMBER: _ClassVar[int]
    GAP_ID_FIELD_NUMBER: _ClassVar[int]
    reason: GapReason
    spans: _containers.RepeatedCompositeFieldContainer[GapSpan]
    records: int
    gap_id: bytes
    def __init__(self, reason: _Optional[_Union[GapReason, str]] = ..., spans: _Optional[_Iterable[_Union[GapSpan, _Mapping]]] = ..., records: _Optional[int] = ..., gap_id: _Optional[bytes] = ...) -> None: ...

class GapSpan(_message.Message):
    __slots__ = ("period", "milliseconds")
    PERIOD_FIELD_NUMBER: _ClassVar[int]
    MILLISECONDS_FIELD_NUMBER: _ClassVar[int]
    period: Period
    milliseconds: int
    def __init__(self, period: _Optional[_Union[Period, _Mapping]] = ..., milliseconds: _Optional[int] = ...) -> None: ...

class Facts(_message.Message):
    __slots__ = ("device_class", "vendor", "model", "cpu_model", "cpu_count", "memory_bytes", "memory_modules", "hard_disks", "solid_state_disks", "virtualisation", "display_off_ac_seconds", "sleep_ac_seconds")
    DEVICE_CLASS_FIELD_NUMBER: _ClassVar[int]
    VENDOR_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    CPU_MODEL_FIELD_NUMBER: _ClassVar[int]
    CPU_COUNT_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    MEMORY_MODULES_FIELD_NUMBER: _ClassVar[int]
    HARD_DISKS_FIELD_NUMBER: _ClassVar[int]
    SOLID_STATE_DISKS_FIELD_NUMBER: _ClassVar[int]
    VIRTUALISATION_FIELD_NUMBER: _ClassVar[int]
    DISPLAY_OFF_AC_SECONDS_FIELD_NUMBER: _ClassVar[int]
    SLEEP_AC_SECONDS_FIELD_NUMBER: _ClassVar[int]
    device_class: DeviceClass
    vendor: str
    model: str
    cpu_model: str
    cpu_count: int
    memory_bytes: int
    memory_modules: int
    hard_disks: int
    solid_state_disks: int
    virtualisation: str
    display_off_ac_seconds: int
    sleep_ac_seconds: int
    def __init__(self, device_class: _Optional[_Union[DeviceClass, str]] = ..., vendor: _Optional[str] = ..., model: _Optional[str] = ..., cpu_model: _Optional[str] = ..., cpu_count: _Optional[int] = ..., memory_bytes: _Optional[int] = ..., memory_modules: _Optional[int] = ..., hard_disks: _Optional[int] = ..., solid_state_disks: _Optional[int] = ..., virtualisation: _Optional[str] = ..., display_off_ac_seconds: _Optional[int] = ..., sleep_ac_seconds: _Optional[int] = ...) -> None: ...

class Health(_message.Message):
    __slots__ = ("agent_version", "spool_records", "spool_bytes", "drops", "sources", "resident_cpu_milliseconds", "resident_rss_bytes", "quarantine_records")
    AGENT_VERSION_FIELD_NUMBER: _ClassVar[int]
    SPOOL_RECORDS_FIELD_NUMBER: _ClassVar[int]
    SPOOL_BYTES_FIELD_NUMBER: _ClassVar[int]
    DROPS_FIELD_NUMBER: _ClassVar[int]
    SOURCES_FIELD_NUMBER: _ClassVar[int]
    RESIDENT_CPU_MILLISECONDS_FIELD_NUMBER: _ClassVar[int]
    RESIDENT_RSS_BYTES_FIELD_NUMBER: _ClassVar[int]
    QUARANTINE_RECORDS_FIELD_NUMBER: _ClassVar[int]
    agent_version: str
    spool_records: int
    spool_bytes: int
    drops: _containers.RepeatedCompositeFieldContainer[DropTotal]
    sources: _containers.RepeatedCompositeFieldContainer[SourceHealth]
    resident_cpu_milliseconds: int
    resident_rss_bytes: int
    quarantine_records: int
    def __init__(self, agent_version: _Optional[str] = ..., spool_records: _Optional[int] = ..., spool_bytes: _Optional[int] = ..., drops: _Optional[_Iterable[_Union[DropTotal, _Mapping]]] = ..., sources: _Optional[_Iterable[_Union[SourceHealth, _Mapping]]] = ..., resident_cpu_milliseconds: _Optional[int] = ..., resident_rss_bytes: _Optional[int] = ..., quarantine_records: _Optional[int] = ...) -> None: ...

class DropTotal(_message.Message):
    __slots__ = ("reason", "records")
    REASON_FIELD_NUMBER: _ClassVar[int]
    RECORDS_FIELD_NUMBER: _ClassVar[int]
    reason: GapReason
    records: int
    def __init__(self, reason: _Optional[_Union[GapReason, str]] = ..., records: _Optional[int] = ...) -> None: ...

class SourceHealth(_message.Message):
    __slots__ = ("name", "successes", "failures", "unavailable")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SUCCESSES_FIELD_NUMBER: _ClassVar[int]
    FAILURES_FIELD_NUMBER: _ClassVar[int]
    UNAVAILABLE_FIELD_NUMBER: _ClassVar[int]
    name: str
    successes: int
    failures: int
    unavailable: str
    def __init__(self, name: _Optional[str] = ..., successes: _Optional[int] = ..., failures: _Optional[int] = ..., unavailable: _Optional[str] = ...) -> None: ...

class ProtocolRange(_message.Message):
    __slots__ = ("minimum", "maximum")
    MINIMUM_FIELD_NUMBER: _ClassVar[int]
    MAXIMUM_FIELD_NUMBER: _ClassVar[int]
    minimum: int
    maximum: int
    def __init__(self, minimum: _Optional[int] = ..., maximum: _Optional[int] = ...) -> None: ...

class DocumentStatus(_message.Message):
    __slots__ = ("sha256", "state")
    SHA256_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    sha256: bytes
    state: AppliedState
    def __init__(self, sha256: _Optional[bytes] = ..., state: _Optional[_Union[AppliedState, str]] = ...) -> None: ...

class HelloRequest(_message.Message):
    __slots__ = ("epoch", "last_seq", "protocol", "features", "instance_id", "configuration", "calendar", "facts", "health")
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    LAST_SEQ_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_ID_FIELD_NUMBER: _ClassVar[int]
    CONFIGURATION_FIELD_NUMBER: _ClassVar[int]
    CALENDAR_FIELD_NUMBER: _ClassVar[int]
    FACTS_FIELD_NUMBER: _ClassVar[int]
    HEALTH_FIELD_NUMBER: _ClassVar[int]
    epoch: bytes
    last_seq: int
    protocol: ProtocolRange
    features: _containers.RepeatedScalarFieldContainer[str]
    instance_id: bytes
    configuration: DocumentStatus
    calendar: DocumentStatus
    facts: Facts
    health: Health
    def __init__(self, epoch: _Optional[bytes] = ..., last_seq: _Optional[int] = ..., protocol: _Optional[_Union[ProtocolRange, _Mapping]] = ..., features: _Optional[_Iterable[str]] = ..., instance_id: _Optional[bytes] = ..., configuration: _Optional[_Union[DocumentStatus, _Mapping]] = ..., calendar: _Optional[_Union[DocumentStatus, _Mapping]] = ..., facts: _Optional[_Union[Facts, _Mapping]] = ..., health: _Optional[_Union[Health, _Mapping]] = ...) -> None: ...

class HelloResponse(_message.Message):
    __slots__ = ("mark", "chain", "protocol", "next_instance_id", "configuration", "calendar", "next_send_after_milliseconds", "collector_version")
    MARK_FIELD_NUMBER: _ClassVar[int]
    CHAIN_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    NEXT_INSTANCE_ID_FIELD_NUMBER: _ClassVar[int]
    CONFIGURATION_FIELD_NUMBER: _ClassVar[int]
    CALENDAR_FIELD_NUMBER: _ClassVar[int]
    NEXT_SEND_AFTER_MILLISECONDS_FIELD_NUMBER: _ClassVar[int]
    COLLECTOR_VERSION_FIELD_NUMBER: _ClassVar[int]
    mark: int
    chain: bytes
    protocol: int
    next_instance_id: bytes
    configuration: RemoteConfiguration
    calendar: Calendar
    next_send_after_milliseconds: int
    collector_version: str
    def __init__(self, mark: _Optional[int] = ..., chain: _Optional[bytes] = ..., protocol: _Optional[int] = ..., next_instance_id: _Optional[bytes] = ..., configuration: _Optional[_Union[RemoteConfiguration, _Mapping]] = ..., calendar: _Optional[_Union[Calendar, _Mapping]] = ..., next_send_after_milliseconds: _Optional[int] = ..., collector_version: _Optional[str] = ...) -> None: ...

class RemoteConfiguration(_message.Message):
    __slots__ = ("tick_milliseconds", "period_milliseconds", "contact_milliseconds", "sha256")
    TICK_MILLISECONDS_FIELD_NUMBER: _ClassVar[int]
    PERIOD_MILLISECONDS_FIELD_NUMBER: _ClassVar[int]
    CONTACT_MILLISECONDS_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    tick_milliseconds: int
    period_milliseconds: int
    contact_milliseconds: int
    sha256: bytes
    def __init__(self, tick_milliseconds: _Optional[int] = ..., period_milliseconds: _Optional[int] = ..., contact_milliseconds: _Optional[int] = ..., sha256: _Optional[bytes] = ...) -> None: ...

class Calendar(_message.Message):
    __slots__ = ("time_zone", "open_spans", "closures", "update_windows")
    TIME_ZONE_FIELD_NUMBER: _ClassVar[int]
    OPEN_SPANS_FIELD_NUMBER: _ClassVar[int]
    CLOSURES_FIELD_NUMBER: _ClassVar[int]
    UPDATE_WINDOWS_FIELD_NUMBER: _ClassVar[int]
    time_zone: str
    open_spans: _containers.RepeatedCompositeFieldContainer[OpenSpan]
    closures: _containers.RepeatedCompositeFieldContainer[LocalDate]
    update_windows: _containers.RepeatedCompositeFieldContainer[OpenSpan]
    def __init__(self, time_zone: _Optional[str] = ..., open_spans: _Optional[_Iterable[_Union[OpenSpan, _Mapping]]] = ..., closures: _Optional[_Iterable[_Union[LocalDate, _Mapping]]] = ..., update_windows: _Optional[_Iterable[_Union[OpenSpan, _Mapping]]] = ...) -> None: ...

class OpenSpan(_message.Message):
    __slots__ = ("iso_weekday", "start_minute", "end_minute")
    ISO_WEEKDAY_FIELD_NUMBER: _ClassVar[int]
    START_MINUTE_FIELD_NUMBER: _ClassVar[int]
    END_MINUTE_FIELD_NUMBER: _ClassVar[int]
    iso_weekday: int
    start_minute: int
    end_minute: int
    def __init__(self, iso_weekday: _Optional[int] = ..., start_minute: _Optional[int] = ..., end_minute: _Optional[int] = ...) -> None: ...

class PushRequest(_message.Message):
    __slots__ = ("epoch", "first_seq", "chain_before", "records")
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    FIRST_SEQ_FIELD_NUMBER: _ClassVar[int]
    CHAIN_BEFORE_FIELD_NUMBER: _ClassVar[int]
    RECORDS_FIELD_NUMBER: _ClassVar[int]
    epoch: bytes
    first_seq: int
    chain_before: bytes
    records: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, epoch: _Optional[bytes] = ..., first_seq: _Optional[int] = ..., chain_before: _Optional[bytes] = ..., records: _Optional[_Iterable[bytes]] = ...) -> None: ...

class Refusal(_message.Message):
    __slots__ = ("seq", "reason")
    SEQ_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    seq: int
    reason: str
    def __init__(self, seq: _Optional[int] = ..., reason: _Optional[str] = ...) -> None: ...

class PushResponse(_message.Message):
    __slots__ = ("outcome", "mark", "chain", "refusals", "next_send_after_milliseconds")
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    MARK_FIELD_NUMBER: _ClassVar[int]
    CHAIN_FIELD_NUMBER: _ClassVar[int]
    REFUSALS_FIELD_NUMBER: _ClassVar[int]
    NEXT_SEND_AFTER_MILLISECONDS_FIELD_NUMBER: _ClassVar[int]
    outcome: PushOutcome
    mark: int
    chain: bytes
    refusals: _containers.RepeatedCompositeFieldContainer[Refusal]
    next_send_after_milliseconds: int
    def __init__(self, outcome: _Optional[_Union[PushOutcome, str]] = ..., mark: _Optional[int] = ..., chain: _Optional[bytes] = ..., refusals: _Optional[_Iterable[_Union[Refusal, _Mapping]]] = ..., next_send_after_milliseconds: _Optional[int] = ...) -> None: ...

class RenewRequest(_message.Message):
    __slots__ = ("certificate_request_der",)
    CERTIFICATE_REQUEST_DER_FIELD_NUMBER: _ClassVar[int]
    certificate_request_der: bytes
    def __init__(self, certificate_request_der: _Optional[bytes] = ...) -> None: ...

class RenewResponse(_message.Message):
    __slots__ = ("certificate",)
    CERTIFICATE_FIELD_NUMBER: _ClassVar[int]
    certificate: IssuedCertificate
    def __init__(self, certificate: _Optional[_Union[IssuedCertificate, _Mapping]] = ...) -> None: ...

class IssuedCertificate(_message.Message):
    __slots__ = ("certificate_der", "intermediates_der", "roots_der")
    CERTIFICATE_DER_FIELD_NUMBER: _ClassVar[int]
    INTERMEDIATES_DER_FIELD_NUMBER: _ClassVar[int]
    ROOTS_DER_FIELD_NUMBER: _ClassVar[int]
    certificate_der: bytes
    intermediates_der: _containers.RepeatedScalarFieldContainer[bytes]
    roots_der: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, certificate_der: _Optional[bytes] = ..., intermediates_der: _Optional[_Iterable[bytes]] = ..., roots_der: _Optional[_Iterable[bytes]] = ...) -> None: ...

class EnrolRequest(_message.Message):
    __slots__ = ("token", "certificate_request_der", "chassis_pseudonym", "smbios_pseudonym", "facts", "host_name", "copy_of")
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_REQUEST_DER_FIELD_NUMBER: _ClassVar[int]
    CHASSIS_PSEUDONYM_FIELD_NUMBER: _ClassVar[int]
    SMBIOS_PSEUDONYM_FIELD_NUMBER: _ClassVar[int]
    FACTS_FIELD_NUMBER: _ClassVar[int]
    HOST_NAME_FIELD_NUMBER: _ClassVar[int]
    COPY_OF_FIELD_NUMBER: _ClassVar[int]
    token: str
    certificate_request_der: bytes
    chassis_pseudonym: bytes
    smbios_pseudonym: bytes
    facts: Facts
    host_name: str
    copy_of: CopyOf
    def __init__(self, token: _Optional[str] = ..., certificate_request_der: _Optional[bytes] = ..., chassis_pseudonym: _Optional[bytes] = ..., smbios_pseudonym: _Optional[bytes] = ..., facts: _Optional[_Union[Facts, _Mapping]] = ..., host_name: _Optional[str] = ..., copy_of: _Optional[_Union[CopyOf, _Mapping]] = ...) -> None: ...

class CopyOf(_message.Message):
    __slots__ = ("agent_id", "nonce", "certificate_der", "signature_der")
    AGENT_ID_FIELD_NUMBER: _ClassVar[int]
    NONCE_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_DER_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_DER_FIELD_NUMBER: _ClassVar[int]
    agent_id: bytes
    nonce: bytes
    certificate_der: bytes
    signature_der: bytes
    def __init__(self, agent_id: _Optional[bytes] = ..., nonce: _Optional[bytes] = ..., certificate_der: _Optional[bytes] = ..., signature_der: _Optional[bytes] = ...) -> None: ...

class EnrolResponse(_message.Message):
    __slots__ = ("agent_id", "certificate", "placement", "retry_after_milliseconds")
    AGENT_ID_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_FIELD_NUMBER: _ClassVar[int]
    PLACEMENT_FIELD_NUMBER: _ClassVar[int]
    RETRY_AFTER_MILLISECONDS_FIELD_NUMBER: _ClassVar[int]
    agent_id: bytes
    certificate: IssuedCertificate
    placement: Placement
    retry_after_milliseconds: int
    def __init__(self, agent_id: _Optional[bytes] = ..., certificate: _Optional[_Union[IssuedCertificate, _Mapping]] = ..., placement: _Optional[_Union[Placement, _Mapping]] = ..., retry_after_milliseconds: _Optional[int] = ...) -> None: ...

class Placement(_message.Message):
    __slots__ = ("org_entity", "site", "population")
    ORG_ENTITY_FIELD_NUMBER: _ClassVar[int]
    SITE_FIELD_NUMBER: _ClassVar[int]
    POPULATION_FIELD_NUMBER: _ClassVar[int]
    org_entity: str
    site: str
    population: Population
    def __init__(self, org_entity: _Optional[str] = ..., site: _Optional[str] = ..., population: _Optional[_Union[Population, str]] = ...) -> None: ...

class ChallengeRequest(_message.Message):
    __slots__ = ("agent_id",)
    AGENT_ID_FIELD_NUMBER: _ClassVar[int]
    agent_id: bytes
    def __init__(self, agent_id: _Optional[bytes] = ...) -> None: ...

class ChallengeResponse(_message.Message):
    __slots__ = ("nonce",)
    NONCE_FIELD_NUMBER: _ClassVar[int]
    nonce: bytes
    def __init__(self, nonce: _Optional[bytes] = ...) -> None: ...

class RenewExpiredRequest(_message.Message):
    __slots__ = ("agent_id", "nonce", "certificate_der", "signature_der", "certificate_request_der")
    AGENT_ID_FIELD_NUMBER: _ClassVar[int]
    NONCE_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_DER_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_DER_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_REQUEST_DER_FIELD_NUMBER: _ClassVar[int]
    agent_id: bytes
    nonce: bytes
    certificate_der: bytes
    signature_der: bytes
    certificate_request_der: bytes
    def __init__(self, agent_id: _Optional[bytes] = ..., nonce: _Optional[bytes] = ..., certificate_der: _Optional[bytes] = ..., signature_der: _Optional[bytes] = ..., certificate_request_der: _Optional[bytes] = ...) -> None: ...

class RenewExpiredResponse(_message.Message):
    __slots__ = ("certificate",)
    CERTIFICATE_FIELD_NUMBER: _ClassVar[int]
    certificate: IssuedCertificate
    def __init__(self, certificate: _Optional[_Union[IssuedCertificate, _Mapping]] = ...) -> None: ...
