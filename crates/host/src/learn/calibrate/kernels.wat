;; What the calibration runs: kinds of work that functions are made of. Each is exported, takes how much of it to do, and
;; returns a number that depends on all of it, so that no compiler can leave anything out.

(memory (export "memory") 11)

;; Integer arithmetic: four multiplicative hashes of a counter, side by side.
(func $hash (export "hash") (param $rounds i32) (result i64)
    (local $round i64)
    (local $a i64)
    (local $b i64)
    (local $c i64)
    (local $d i64)
    (loop $again
        (local.set $round (i64.extend_i32_u (local.get $rounds)))
        (local.set $a (i64.mul (i64.xor (local.get $a) (local.get $round)) (i64.const 0xff51afd7ed558ccd)))
        (local.set $a (i64.xor (local.get $a) (i64.shr_u (local.get $a) (i64.const 29))))
        (local.set $b (i64.mul (i64.xor (local.get $b) (local.get $round)) (i64.const 0xc4ceb9fe1a85ec53)))
        (local.set $b (i64.xor (local.get $b) (i64.shr_u (local.get $b) (i64.const 29))))
        (local.set $c (i64.mul (i64.xor (local.get $c) (local.get $round)) (i64.const 0x9e3779b97f4a7c15)))
        (local.set $c (i64.xor (local.get $c) (i64.shr_u (local.get $c) (i64.const 29))))
        (local.set $d (i64.mul (i64.xor (local.get $d) (local.get $round)) (i64.const 0xbf58476d1ce4e5b9)))
        (local.set $d (i64.xor (local.get $d) (i64.shr_u (local.get $d) (i64.const 29))))
        (br_if $again (local.tee $rounds (i32.sub (local.get $rounds) (i32.const 1)))))
    (i64.xor
        (i64.xor (local.get $a) (local.get $b))
        (i64.xor (local.get $c) (local.get $d))))

;; Floating point: the product of two square matrices, whose elements are small integers, at addresses 0 and 32 KiB; the
;; result goes to 64 KiB, and its elements are summed.
(func $matmul (export "matmul") (param $n i32) (result i64)
    (local $i i32)
    (local $j i32)
    (local $k i32)
    (local $row i32)
    (local $left i32)
    (local $right i32)
    (local $sum f64)
    (local $total f64)
    (local.set $i (i32.const 0))
    (loop $fill
        (f64.store
            (i32.shl (local.get $i) (i32.const 3))
            (f64.convert_i32_u (i32.and (local.get $i) (i32.const 7))))
        (f64.store offset=32768
            (i32.shl (local.get $i) (i32.const 3))
            (f64.convert_i32_u (i32.rem_u (local.get $i) (i32.const 5))))
        (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br_if $fill (i32.lt_u (local.get $i) (i32.mul (local.get $n) (local.get $n)))))
    (local.set $row (i32.shl (local.get $n) (i32.const 3)))
    (local.set $i (i32.const 0))
    (loop $rows
        (local.set $j (i32.const 0))
        (loop $columns
            (local.set $left (i32.mul (local.get $i) (local.get $row)))
            (local.set $right (i32.shl (local.get $j) (i32.const 3)))
            (local.set $sum (f64.const 0))
            (local.set $k (local.get $n))
            (loop $inner
                (local.set $sum
                    (f64.add
                        (local.get $sum)
                        (f64.mul (f64.load (local.get $left)) (f64.load offset=32768 (local.get $right)))))
                (local.set $left (i32.add (local.get $left) (i32.const 8)))
                (local.set $right (i32.add (local.get $right) (local.get $row)))
                (br_if $inner (local.tee $k (i32.sub (local.get $k) (i32.const 1)))))
            (f64.store offset=65536
                (i32.add
                    (i32.mul (local.get $i) (local.get $row))
                    (i32.shl (local.get $j) (i32.const 3)))
                (local.get $sum))
            (local.set $total (f64.add (local.get $total) (local.get $sum)))
            (br_if $columns
                (i32.lt_u (local.tee $j (i32.add (local.get $j) (i32.const 1))) (local.get $n))))
        (br_if $rows (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (local.get $n))))
    (i64.trunc_sat_f64_s (local.get $total)))

;; Calls: Fibonacci numbers the slow way.
(func $fibonacci (param $n i32) (result i32)
    (if (result i32) (i32.lt_u (local.get $n) (i32.const 2))
        (then (local.get $n))
        (else
            (i32.add
                (call $fibonacci (i32.sub (local.get $n) (i32.const 1)))
                (call $fibonacci (i32.sub (local.get $n) (i32.const 2)))))))
(func $calls (export "calls") (param $n i32) (result i64)
    (i64.extend_i32_u (call $fibonacci (local.get $n))))

;; Memory: bytes are written, words are read and written back, up and down half a megabyte from 128 KiB on.
(func $traffic (export "traffic") (param $words i32) (result i64)
    (local $at i32)
    (local $end i32)
    (local $sum i64)
    (local.set $end (i32.shl (local.get $words) (i32.const 3)))
    (loop $write
        (i32.store8 offset=131072 (local.get $at) (local.get $at))
        (i32.store8 offset=131076 (local.get $at) (i32.shr_u (local.get $at) (i32.const 3)))
        (br_if $write
            (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 8))) (local.get $end))))
    (loop $update
        (local.set $at (i32.sub (local.get $at) (i32.const 8)))
        (local.set $sum (i64.add (local.get $sum) (i64.load offset=131072 (local.get $at))))
        (i64.store offset=131072 (local.get $at) (local.get $sum))
        (br_if $update (local.get $at)))
    (local.get $sum))

;; Branches: a machine of four states, as parsers and interpreters have them. What drives it has a pattern, as input has;
;; with random numbers all engines would wait for mispredicted branches, and differ less than they do.
(func $branches (export "branches") (param $steps i32) (result i64)
    (local $drive i32)
    (local $state i32)
    (local $count i64)
    (local.set $drive (i32.const 12345))
    (loop $again
        (local.set $drive (i32.add (local.get $drive) (i32.const 0x50003)))
        (block $done
            (block $three
                (block $two
                    (block $one
                        (block $zero
                            (br_table $zero $one $two $three (local.get $state)))
                        (local.set $state (i32.and (i32.shr_u (local.get $drive) (i32.const 16)) (i32.const 3)))
                        (br $done))
                    (if (i32.and (local.get $drive) (i32.const 0x100000))
                        (then (local.set $state (i32.const 3)))
                        (else (local.set $count (i64.add (local.get $count) (i64.const 1)))))
                    (br $done))
                (local.set $count (i64.xor (local.get $count) (i64.extend_i32_u (local.get $drive))))
                (local.set $state
                    (select (i32.const 0) (i32.const 1) (i32.gt_s (local.get $drive) (i32.const 0))))
                (br $done))
            (if (i32.lt_u (i32.and (i32.shr_u (local.get $drive) (i32.const 16)) (i32.const 255)) (i32.const 60))
                (then (local.set $count (i64.add (local.get $count) (i64.const 3))) (local.set $state (i32.const 2)))
                (else (local.set $state (i32.and (i32.shr_u (local.get $drive) (i32.const 20)) (i32.const 1))))))
        (br_if $again (local.tee $steps (i32.sub (local.get $steps) (i32.const 1)))))
    (i64.add (local.get $count) (i64.extend_i32_u (local.get $state))))
