"""The codes of task management functions and of what they come to."""

from enum import IntEnum


class TaskManagement(IntEnum):
    """Names the function codes.

    Source: RFC7143 11.5.1, RFC7144 4
    """

    ABORT_TASK = 1
    ABORT_TASK_SET = 2
    CLEAR_ACA = 3
    CLEAR_TASK_SET = 4
    LOGICAL_UNIT_RESET = 5
    TARGET_WARM_RESET = 6
    TARGET_COLD_RESET = 7
    TASK_REASSIGN = 8
    QUERY_TASK = 9
    QUERY_TASK_SET = 10
    I_T_NEXUS_RESET = 11
    QUERY_ASYNCHRONOUS_EVENT = 12


class ManagementResponse(IntEnum):
    """Names the response codes.

    Source: RFC7143 11.6.1, RFC7144 4
    """

    FUNCTION_COMPLETE = 0
    TASK_DOES_NOT_EXIST = 1
    LUN_DOES_NOT_EXIST = 2
    TASK_STILL_ALLEGIANT = 3
    REASSIGNMENT_NOT_SUPPORTED = 4
    FUNCTION_NOT_SUPPORTED = 5
    FUNCTION_SUCCEEDED = 7
    FUNCTION_REJECTED = 255
