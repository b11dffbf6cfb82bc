# Synthesises, places and routes measure.xpr, and writes utilization.rpt and timing.rpt. There is no bitstream of a net without pins.
open_project measure.xpr
launch_runs impl_1 -to_step route_design
wait_on_run impl_1
if {[get_property PROGRESS [get_runs impl_1]] != "100%"} {
    puts "ERROR: the net was not placed and routed"
    exit 1
}
open_run impl_1
report_utilization -file utilization.rpt
report_timing_summary -no_detailed_paths -file timing.rpt
