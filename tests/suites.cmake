# Read by ctest for each room's tests, with `room` and `program`: an entry ROOM.Suite per suite, as
# starting a program takes longer than most tests do; suites whose names end in "Slow" have an entry
# ROOM.Suite.Test per test and the label slow, the others the label fast.
if(NOT EXISTS "${program}")
  add_test("${room}.not_built" "${program}")
  return()
endif()

set(listing "${program}.txt")
if("${program}" IS_NEWER_THAN "${listing}")
  execute_process(COMMAND "${program}" --gtest_list_tests OUTPUT_FILE "${listing}" RESULT_VARIABLE status)
  if(NOT status EQUAL 0)
    file(REMOVE "${listing}")
    message(FATAL_ERROR "${program} --gtest_list_tests ended with ${status}")
  endif()
endif()

# Threads that wait for work sleep instead of spinning: one process alone loses a tenth of its speed,
# but two on the same cores, as tests are, no longer slow each other down tenfold.
set(wait_policy passive)
if(DEFINED ENV{OMP_WAIT_POLICY})
  set(wait_policy "$ENV{OMP_WAIT_POLICY}")
endif()

# Large blocks of memory stay with the process: gradients of the reference modules ask for one after
# another, and new ones have to be cleared by the system.
set(allocation GLIBC_TUNABLES=glibc.malloc.mmap_threshold=1073741824:glibc.malloc.trim_threshold=2147483648)
include("${CMAKE_CURRENT_LIST_DIR}/temporary_files.cmake")

function(add_entry name filter label timeout)
  add_test("${name}" "${program}" "--gtest_filter=${filter}")
  set_tests_properties("${name}" PROPERTIES LABELS "${label}" TIMEOUT "${timeout}"
                       ENVIRONMENT "OMP_WAIT_POLICY=${wait_policy};${allocation};${temporary_files}")
  if(label STREQUAL slow)
    set_tests_properties("${name}" PROPERTIES COST 100)  # begun first
  endif()
endfunction()

file(STRINGS "${listing}" lines)
foreach(line IN LISTS lines)
  string(REGEX REPLACE " *#.*$" "" line "${line}")
  if(line MATCHES "^([A-Za-z0-9_/]+)\\.$")
    set(suite "${CMAKE_MATCH_1}")
    if(NOT suite MATCHES "Slow(/.*)?$")
      add_entry("${room}.${suite}" "${suite}.*" fast 600)
    endif()
  elseif(line MATCHES "^  ([A-Za-z0-9_/]+)$")
    set(test "${CMAKE_MATCH_1}")  # before the next MATCHES
    if(suite MATCHES "Slow(/.*)?$")
      add_entry("${room}.${suite}.${test}" "${suite}.${test}" slow 900)
    endif()
  endif()
endforeach()
