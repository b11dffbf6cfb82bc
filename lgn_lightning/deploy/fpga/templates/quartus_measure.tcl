# Writes timing.rpt of a fitted project; utilization is in measure.fit.summary.
project_open measure
create_timing_netlist
read_sdc
update_timing_netlist
report_clock_fmax_summary -file timing.rpt
delete_timing_netlist
project_close
