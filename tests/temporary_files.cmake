# Sets temporary_files to the environment of tests: their files in memory where it has room for them and
# TMPDIR names no other place. All that rwkvx writes is flushed to the disk, and tests would wait for that
# as long as they compute.
if(DEFINED temporary_files)  # by another room's suites
  return()
endif()
set(temporary_files "")
if("$ENV{TMPDIR}" STREQUAL "" AND IS_DIRECTORY /dev/shm)
  execute_process(COMMAND df --output=avail -m /dev/shm OUTPUT_VARIABLE free_megabytes ERROR_QUIET)
  string(REGEX MATCH "[0-9]+" free_megabytes "${free_megabytes}")
  if(free_megabytes GREATER 2000)
    set(temporary_files TMPDIR=/dev/shm)
  endif()
endif()
