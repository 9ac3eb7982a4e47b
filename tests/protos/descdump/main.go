// Descdump prints message and enum definitions as flat JSON, for the schema test to compare.
//
//	descdump            the official Envoy, Istio and Google APIs, from the packages in imports.go
//	descdump FILE       what protoc --descriptor_set_out --include_imports wrote to FILE
//
// Both go through the same code, so that a difference in the output is a difference in the definitions.
package main

import (
	"encoding/json"
	"log"
	"os"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
)

type field struct {
	Name       string `json:"name"`
	Number     int    `json:"number"`
	Label      string `json:"label"`
	Type       string `json:"type"`
	TypeName   string `json:"type_name,omitempty"`
	Oneof      string `json:"oneof,omitempty"`
	Optional   bool   `json:"optional,omitempty"` // proto3 optional: its oneof is made up by protoc
	JSONName   string `json:"json_name"`
	Deprecated bool   `json:"deprecated,omitempty"`
}

type message struct {
	Package  string  `json:"package"`
	File     string  `json:"file"`
	Parent   string  `json:"parent,omitempty"`
	MapEntry bool    `json:"map_entry,omitempty"`
	Fields   []field `json:"fields"`
}

type value struct {
	Name   string `json:"name"`
	Number int    `json:"number"`
}

type enum struct {
	Package string  `json:"package"`
	File    string  `json:"file"`
	Parent  string  `json:"parent,omitempty"`
	Values  []value `json:"values"`
}

type dump struct {
	Messages map[string]message `json:"messages"`
	Enums    map[string]enum    `json:"enums"`
}

func describe(fd protoreflect.FieldDescriptor) field {
	f := field{
		Name:     string(fd.Name()),
		Number:   int(fd.Number()),
		Label:    fd.Cardinality().String(),
		Type:     fd.Kind().String(),
		JSONName: fd.JSONName(),
	}
	if fd.Message() != nil {
		f.TypeName = string(fd.Message().FullName())
	}
	if fd.Enum() != nil {
		f.TypeName = string(fd.Enum().FullName())
	}
	if oneof := fd.ContainingOneof(); oneof != nil {
		f.Oneof = string(oneof.Name())
		f.Optional = oneof.IsSynthetic()
	}
	if options, ok := fd.Options().(*descriptorpb.FieldOptions); ok {
		f.Deprecated = options.GetDeprecated()
	}
	return f
}

func (d *dump) enums(list protoreflect.EnumDescriptors, parent string) {
	for i := 0; i < list.Len(); i++ {
		ed := list.Get(i)
		e := enum{Package: string(ed.ParentFile().Package()), File: ed.ParentFile().Path(), Parent: parent}
		for j := 0; j < ed.Values().Len(); j++ {
			v := ed.Values().Get(j)
			e.Values = append(e.Values, value{string(v.Name()), int(v.Number())})
		}
		d.Enums[string(ed.FullName())] = e
	}
}

func (d *dump) messages(list protoreflect.MessageDescriptors, parent string) {
	for i := 0; i < list.Len(); i++ {
		md := list.Get(i)
		name := string(md.FullName())
		m := message{Package: string(md.ParentFile().Package()), File: md.ParentFile().Path(), Parent: parent,
			MapEntry: md.IsMapEntry(), Fields: []field{}}
		for j := 0; j < md.Fields().Len(); j++ {
			m.Fields = append(m.Fields, describe(md.Fields().Get(j)))
		}
		d.Messages[name] = m
		d.enums(md.Enums(), name)
		d.messages(md.Messages(), name)
	}
}

func read(path string) *protoregistry.Files {
	data, err := os.ReadFile(path)
	if err != nil {
		log.Fatal(err)
	}
	set := &descriptorpb.FileDescriptorSet{}
	if err := proto.Unmarshal(data, set); err != nil {
		log.Fatal(err)
	}
	files, err := protodesc.NewFiles(set)
	if err != nil {
		log.Fatal(err)
	}
	return files
}

func main() {
	files := protoregistry.GlobalFiles
	if len(os.Args) == 2 {
		files = read(os.Args[1])
	}
	d := &dump{Messages: map[string]message{}, Enums: map[string]enum{}}
	files.RangeFiles(func(fd protoreflect.FileDescriptor) bool {
		d.messages(fd.Messages(), "")
		d.enums(fd.Enums(), "")
		return true
	})
	out := json.NewEncoder(os.Stdout)
	out.SetIndent("", " ")
	if err := out.Encode(d); err != nil {
		log.Fatal(err)
	}
}
