package normalize

// senmlUnit is one row of the registry of SenML units. A value in a secondary
// unit is value·mul/div + offset in the primary one.
type senmlUnit struct {
	to       string // the primary unit; "" for a unit that is one
	mul, div float64
	offset   float64
}

func (u senmlUnit) primary(v float64) float64 {
	if u.to == "" {
		return v
	}
	return v*u.mul/u.div + u.offset
}

// symbol is the unit a converted value has.
func (u senmlUnit) symbol(unit string) string {
	if u.to == "" {
		return unit
	}
	return u.to
}

// senmlUnits holds the primary units of RFC 8428, section 12.1, and RFC 8798,
// section 2, and the secondary ones of RFC 8798, section 3. A unit that is not
// here is kept as it was sent: the registry grows.
var senmlUnits = map[string]senmlUnit{
	"m": {}, "kg": {}, "g": {}, "s": {}, "A": {}, "K": {}, "cd": {}, "mol": {}, "Hz": {}, "rad": {}, "sr": {},
	"N": {}, "Pa": {}, "J": {}, "W": {}, "C": {}, "V": {}, "F": {}, "Ohm": {}, "S": {}, "Wb": {}, "T": {}, "H": {},
	"Cel": {}, "lm": {}, "lx": {}, "Bq": {}, "Gy": {}, "Sv": {}, "kat": {}, "m2": {}, "m3": {}, "l": {}, "m/s": {},
	"m/s2": {}, "m3/s": {}, "l/s": {}, "W/m2": {}, "cd/m2": {}, "bit": {}, "bit/s": {}, "lat": {}, "lon": {},
	"pH": {}, "dB": {}, "dBW": {}, "Bspl": {}, "count": {}, "/": {}, "%": {}, "%RH": {}, "%EL": {}, "EL": {},
	"1/s": {}, "1/min": {}, "beat/min": {}, "beats": {}, "S/m": {},

	"B": {}, "VA": {}, "VAs": {}, "var": {}, "vars": {}, "J/m": {}, "kg/m3": {}, "deg": {},

	"ms":     {"s", 1, 1000, 0},
	"min":    {"s", 60, 1, 0},
	"h":      {"s", 3600, 1, 0},
	"MHz":    {"Hz", 1e6, 1, 0},
	"kW":     {"W", 1000, 1, 0},
	"kVA":    {"VA", 1000, 1, 0},
	"kvar":   {"var", 1000, 1, 0},
	"Ah":     {"C", 3600, 1, 0},
	"Wh":     {"J", 3600, 1, 0},
	"kWh":    {"J", 3.6e6, 1, 0},
	"varh":   {"vars", 3600, 1, 0},
	"kvarh":  {"vars", 3.6e6, 1, 0},
	"kVAh":   {"VAs", 3.6e6, 1, 0},
	"Wh/km":  {"J/m", 3.6, 1, 0},
	"KiB":    {"B", 1024, 1, 0},
	"GB":     {"B", 1e9, 1, 0},
	"Mbit/s": {"bit/s", 1e6, 1, 0},
	"B/s":    {"bit/s", 8, 1, 0},
	"MB/s":   {"bit/s", 8e6, 1, 0},
	"mV":     {"V", 1, 1000, 0},
	"mA":     {"A", 1, 1000, 0},
	"dBm":    {"dBW", 1, 1, -30},
	"ug/m3":  {"kg/m3", 1, 1e9, 0},
	"mm/h":   {"m/s", 1, 3.6e6, 0},
	"m/h":    {"m/s", 1, 3600, 0},
	"ppm":    {"/", 1, 1e6, 0},
	"/100":   {"/", 1, 100, 0},
	"/1000":  {"/", 1, 1000, 0},
	"hPa":    {"Pa", 100, 1, 0},
	"mm":     {"m", 1, 1000, 0},
	"cm":     {"m", 1, 100, 0},
	"km":     {"m", 1000, 1, 0},
	"km/h":   {"m/s", 1, 3.6, 0},
}

// senmlIntegrals names the units that are another one times a second.
var senmlIntegrals = map[string]string{
	"W": "J", "A": "C", "VA": "VAs", "var": "vars", "m/s": "m", "m/s2": "m/s", "m3/s": "m3", "l/s": "l", "bit/s": "bit",
}

// integralUnit is the unit of a sum (RFC 8428, section 4.2: the record's unit
// times seconds).
func integralUnit(unit string) string {
	if unit == "" {
		return ""
	}
	if named, ok := senmlIntegrals[unit]; ok {
		return named
	}
	return unit + "*s"
}
